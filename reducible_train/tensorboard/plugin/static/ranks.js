// Layer x epoch: which share of its full rank a layer keeps, and when it was cut.

import {cutsAt, isNumber, percent, short, tinyShare} from './data.js';
import {COLOURS, axes, cutLines, cutsTold, epochs, group, html, inNumbers, linear, path, picture, shade, stairs, svg, table} from './svg.js';

const FEW = 12;
const MOST_COLUMNS = 160; // epochs in one row; beyond that, neighbours share a column

function share(run, layer, column) {
  const rank = run.ranks[layer][column];
  const {full} = run.layers[layer];
  return isNumber(rank) && full ? Math.min(rank / full, 1) : null;
}

function managed(run) {
  return run.layers.map((_, i) => i).filter((i) => run.ranks[i].some(isNumber));
}

function lines(state, layers) {
  const {run} = state;
  const [left, right, top, bottom] = [52, 640, 28, 300];
  const x = linear([run.steps[0] - 0.5, run.steps.at(-1) + 0.5], [left, right]);
  const y = linear([0, 1], [bottom, top]);
  const drawn = layers.map((layer, i) => {
    const shares = run.steps.map((_, column) => share(run, layer, column));
    const ends = (column) => [x(run.steps[column] - 0.5), x(run.steps[column] + 0.5)];
    return path(stairs(shares, ends, y), {class: 'series', stroke: COLOURS[i % COLOURS.length], 'stroke-width': 2.2});
  });
  const legend = layers.map((layer, i) => button(state, layer, COLOURS[i % COLOURS.length]));
  return html(
    'div', {class: 'beside'},
    picture(
      660, 340, `Kept share of full rank of ${layers.length} layers over ${run.steps.length} epochs`,
      axes({x: epochs(x), y, left, right, top, bottom, xName: 'epoch', yName: 'rank, of full rank', yText: percent}),
      cutLines(run, x, top, bottom), drawn,
    ),
    html('div', {class: 'legend', role: 'group', 'aria-label': 'Layers: choose one for its spectrum'}, legend),
  );
}

function button(state, layer, colour) {
  const {name} = state.run.layers[layer];
  const last = state.run.steps.length - 1;
  const rank = state.run.ranks[layer][last];
  const kept = isNumber(rank) ? `rank ${short(rank)}, ${percent(share(state.run, layer, last), 2)}` : '';
  return html(
    'button', {type: 'button', onclick: () => state.openLayer(name), title: 'its singular values'},
    html('span', {class: 'key', style: `background:${colour}`}),
    html('span', {class: 'layer-name'}, name), html('span', {class: 'share'}, kept),
  );
}

function shadeOf(value) {
  return value === null ? null : Math.round(Math.sqrt(value) * SHADES);
}

function columns(run) {
  const width = Math.ceil(run.steps.length / MOST_COLUMNS);
  const found = [];
  for (let i = width - 1; i < run.steps.length + width - 1; i += width) {
    found.push(Math.min(i, run.steps.length - 1));
  }
  return found;
}

// Shades that an eye tells apart.
const SHADES = 24;

// One rectangle for each run of equal shades, so that 200 layers x 300 epochs stay few.
function heat(state, layers) {
  const {run} = state;
  const at = columns(run);
  const [row, dense] = layers.length > 80 ? [10, ' crowded'] : layers.length > 30 ? [13, ' many'] : [20, ''];
  const [left, top, right] = [230, 30, 820];
  const bottom = top + row * layers.length;
  const x = linear([0, at.length], [left, right]);
  const cells = [];
  const names = [];
  layers.forEach((layer, line) => {
    const y = top + line * row;
    const {name} = run.layers[layer];
    let from = 0;
    for (let i = 1; i <= at.length; i++) {
      const value = share(run, layer, at[from]);
      if (i < at.length && shadeOf(share(run, layer, at[i])) === shadeOf(value)) continue;
      if (value !== null) {
        cells.push(svg('rect', {
          x: x(from), y, width: x(i) - x(from) + 0.3, height: row - 1, fill: shade(value),
        }, svg('title', {}, `${name}: ${percent(value, 2)} of full rank from epoch ${run.steps[at[from]]}`)));
      }
      from = i;
    }
    names.push(svg('text', {x: right + 8, y: y + row - 4, class: `tick${dense}`},
      percent(share(run, layer, run.steps.length - 1), 2)));
    const open = () => state.openLayer(name);
    const label = name.length > 34 ? `…${name.slice(-33)}` : name;
    names.push(svg('text', {
      x: left - 8, y: y + row - 4, class: `row-name${dense}`, 'text-anchor': 'end', tabindex: 0, role: 'button',
      'aria-label': `${name}: its singular values`, onclick: open,
      onkeydown: (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); open(); } },
    }, label, svg('title', {}, name)));
  });
  const undone = new Set(run.undone.map((each) => each.at));
  const cuts = run.cut_steps.map((step) => {
    const column = at.findIndex((each) => run.steps[each] >= step);
    const place = x(Math.max(column, 0));
    return svg('line', {x1: place, x2: place, y1: top - 6, y2: bottom, class: undone.has(step) ? 'cut undone' : 'cut'},
      svg('title', {}, `${cutsAt(run, step).length > 1 ? 'cuts' : 'cut'} ${run.when[step]} epoch ${step}`));
  });
  const every = Math.ceil(at.length / 12);
  const ticks = at.filter((_, i) => i % every === 0).map((each, i) => svg(
    'text', {x: x(i * every + 0.5), y: bottom + 16, class: 'tick', 'text-anchor': 'middle'}, run.steps[each],
  ));
  return html(
    'div', {},
    group(
      900, bottom + 40, `Kept share of full rank, ${layers.length} layers by ${run.steps.length} epochs`,
      svg('text', {x: left - 8, y: 14, class: 'name', 'text-anchor': 'end'}, 'layer'),
      svg('text', {x: left, y: 14, class: 'name'}, 'rank, of full rank'),
      svg('text', {x: right + 8, y: 14, class: 'name'}, 'at the end'),
      svg('g', {'aria-hidden': 'true'}, cells, cuts, ticks), names, svg('text', {x: right, y: bottom + 32, class: 'name', 'text-anchor': 'end'}, 'epoch'),
    ),
    html('div', {class: 'scale', 'aria-hidden': 'true'}, '0 %',
      [0, 0.2, 0.4, 0.6, 0.8, 1].map((each) => html('span', {style: `background:${shade(each)}`})), '100 % of full rank'),
  );
}

export function ranks(state) {
  const {run} = state;
  const layers = managed(run);
  if (!layers.length) return html('p', {}, 'No ranks of layers are in these logs.');
  const last = run.steps.length - 1;
  const rows = layers.map((i) => [
    run.layers[i].name, run.layers[i].shape.join(' x '), run.ranks[i][last] ?? '–', run.layers[i].full ?? '–',
    percent(share(run, i, last), 2), percent(run.layers[i].energy), tinyShare(run.layers[i].output_error),
    run.layers[i].reason || run.layers[i].remark,
  ]);
  const head = ['layer', 'shape', 'rank', 'full', 'of full rank', 'energy kept', 'output error', 'remark'];
  return html(
    'div', {},
    layers.length > FEW ? heat(state, layers) : lines(state, layers),
    html('p', {class: 'hint'}, `${cutsTold(run)} Choose a layer to see its singular values.`),
    inNumbers(
      table(`Ranks after epoch ${run.steps[last]}`, head, rows),
      html('p', {class: 'hint'}, 'Energy kept: of the squared singular values of the kernel. Output error: of the variance of its outputs, on data. ',
        'Most of the energy of a kernel is in directions that its data does not use, so little of it may keep most of the outputs.'),
    ),
  );
}
