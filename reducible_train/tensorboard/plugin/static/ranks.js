// Layer x epoch: which share of its full rank a layer keeps, and when it was cut.

import {isNumber, percent} from './data.js';
import {COLOURS, axes, html, inNumbers, linear, path, picture, shade, svg, table} from './svg.js';

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

function cutLines(run, x, top, bottom) {
  return run.cut_steps.map((step) => svg(
    'line', {x1: x(step), x2: x(step), y1: top, y2: bottom, class: 'cut'},
    svg('title', {}, `cut before epoch ${step}`),
  ));
}

function lines(state, layers) {
  const {run} = state;
  const [left, right, top, bottom] = [52, 640, 28, 300];
  const x = linear([run.steps[0], Math.max(run.steps.at(-1), run.steps[0] + 1)], [left, right]);
  const y = linear([0, 1], [bottom, top]);
  const drawn = layers.map((layer, i) => {
    const points = run.steps.map((step, column) => {
      const value = share(run, layer, column);
      return [x(step), value === null ? null : y(value)];
    });
    return path(points, {stroke: COLOURS[i % COLOURS.length], 'stroke-width': 2.2});
  });
  const legend = layers.map((layer, i) => button(state, layer, COLOURS[i % COLOURS.length]));
  return html(
    'div', {class: 'beside'},
    picture(
      660, 340, `Kept share of full rank of ${layers.length} layers over ${run.steps.length} epochs`,
      axes({x, y, left, right, top, bottom, xName: 'epoch', yName: 'rank over full rank', yText: percent}),
      cutLines(run, x, top, bottom), drawn,
    ),
    html('div', {class: 'legend', role: 'group', 'aria-label': 'Layers: choose one for its spectrum'}, legend),
  );
}

function button(state, layer, colour) {
  const {name} = state.run.layers[layer];
  const last = share(state.run, layer, state.run.steps.length - 1);
  return html(
    'button', {type: 'button', onclick: () => state.openLayer(name), title: 'its singular values'},
    colour ? html('span', {class: 'key', style: `background:${colour}`}) : null,
    html('span', {class: 'layer-name'}, name), html('span', {class: 'share'}, percent(last, 2)),
  );
}

function columns(run) {
  const width = Math.ceil(run.steps.length / MOST_COLUMNS);
  const found = [];
  for (let i = width - 1; i < run.steps.length + width - 1; i += width) {
    found.push(Math.min(i, run.steps.length - 1));
  }
  return found;
}

// One rectangle for each run of equal shares, so that 200 layers x 300 epochs stay few.
function heat(state, layers) {
  const {run} = state;
  const at = columns(run);
  const row = layers.length > 80 ? 9 : layers.length > 30 ? 13 : 20;
  const [left, top, right] = [230, 30, 860];
  const bottom = top + row * layers.length;
  const x = linear([0, at.length], [left, right]);
  const cells = [];
  layers.forEach((layer, line) => {
    const y = top + line * row;
    const {name} = run.layers[layer];
    let from = 0;
    for (let i = 1; i <= at.length; i++) {
      const value = share(run, layer, at[from]);
      if (i < at.length && share(run, layer, at[i]) === value) continue;
      if (value !== null) {
        cells.push(svg('rect', {
          x: x(from), y, width: x(i) - x(from) + 0.3, height: row - 1, fill: shade(value),
        }, svg('title', {}, `${name}: ${percent(value, 2)} of full rank from epoch ${run.steps[at[from]]}`)));
      }
      from = i;
    }
    const open = () => state.openLayer(name);
    const label = name.length > 34 ? `…${name.slice(-33)}` : name;
    cells.push(svg('text', {
      x: left - 8, y: y + row - 4, class: 'row-name', 'text-anchor': 'end', tabindex: 0, role: 'button',
      'font-size': Math.min(12, row - 1), 'aria-label': `${name}: its singular values`, onclick: open,
      onkeydown: (event) => { if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); open(); } },
    }, label, svg('title', {}, name)));
  });
  const cuts = run.cut_steps.map((step) => {
    const column = at.findIndex((each) => run.steps[each] >= step);
    const place = x(Math.max(column, 0));
    return svg('line', {x1: place, x2: place, y1: top - 6, y2: bottom, class: 'cut'}, svg('title', {}, `cut before epoch ${step}`));
  });
  const every = Math.ceil(at.length / 12);
  const ticks = at.filter((_, i) => i % every === 0).map((each, i) => svg(
    'text', {x: x(i * every + 0.5), y: bottom + 16, class: 'tick', 'text-anchor': 'middle'}, run.steps[each],
  ));
  return html(
    'div', {},
    picture(
      880, bottom + 40, `Kept share of full rank, ${layers.length} layers by ${run.steps.length} epochs`,
      svg('text', {x: left, y: 14, class: 'name'}, 'rank over full rank; lines are cuts'),
      cells, cuts, ticks, svg('text', {x: right, y: bottom + 32, class: 'name', 'text-anchor': 'end'}, 'epoch'),
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
    percent(share(run, i, last), 2), percent(run.layers[i].energy), percent(run.layers[i].output_error),
    run.layers[i].reason || run.layers[i].remark,
  ]);
  const head = ['layer', 'shape', 'rank', 'full', 'kept', 'energy', 'output error', 'remark'];
  return html(
    'div', {},
    html('p', {class: 'hint'}, 'Choose a layer to see its singular values.'),
    layers.length > FEW ? heat(state, layers) : lines(state, layers),
    inNumbers(table(`Ranks after epoch ${run.steps[last]}`, head, rows)),
  );
}
