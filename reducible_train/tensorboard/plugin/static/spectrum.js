// Singular values of one layer before each cut: what was kept, and what looks like noise.

import {askSpectra, cutsAt, isNumber, short} from './data.js';
import {axes, html, inNumbers, logarithmic, path, picture, svg, table} from './svg.js';

const [LEFT, RIGHT, TOP, BOTTOM] = [64, 640, 28, 320];

function positive(spectrum) {
  return spectrum.positions
    .map((position, i) => [position, spectrum.values[i]])
    .filter(([, value]) => isNumber(value) && value > 0);
}

// A line with its name on one side.
function upright(place, height, kind, name, before) {
  return svg(
    'g', {},
    svg('line', {x1: place, x2: place, y1: TOP, y2: BOTTOM, class: kind}),
    svg('text', {x: place + (before ? -5 : 5), y: height, class: 'mark', 'text-anchor': before ? 'end' : 'start'}, name),
  );
}

// The cuts of a layer in an epoch; its values are those before the last.
function cutsOf(run, layer, step) {
  return cutsAt(run, step).filter((cut) => cut.kernels.some((each) => each.name === layer));
}

// Whether the data weighs the values of a cut; null where the logs do not tell.
function isWeighed(run, layer, step) {
  const cut = cutsOf(run, layer, step).at(-1);
  const criterion = cut?.kernels.find((each) => each.name === layer).criterion;
  return criterion ? criterion !== 'frobenius' : null;
}

// "cut that begins epoch 3", "last cut in epoch 3".
function cutTold(run, layer, step, name = 'cut') {
  const found = cutsOf(run, layer, step);
  const when = found.at(-1)?.when ?? run.when[step] ?? 'before or in';
  return `${found.length > 1 ? 'last cut' : name} ${when === 'before' ? 'that begins' : when} epoch ${step}`;
}

const EFFECTIVE = 'Effective rank: how many equal values would be spread as evenly. ';
const OTHER = 'The effective rank of the sensitivity table is another number, of the kernel alone. ';

function drawn(run, spectra, at, layer) {
  const weighed = isWeighed(run, layer, spectra[at].step);
  const told = cutTold(run, layer, spectra[at].step);
  const first = positive(spectra[0]);
  const now = positive(spectra[at]);
  const {rank, length, effective_rank: effective, noise_edge: edge} = spectra[at];
  const values = [...first, ...now].map(([, value]) => value);
  if (!values.length) return html('p', {}, 'All singular values are zero, or no numbers.');
  const high = Math.max(...values);
  const low = Math.max(Math.min(...values), high * 1e-6);
  const most = Math.max(length, spectra[0].length, 2);
  const x = logarithmic([1, most], [LEFT, RIGHT]);
  const y = logarithmic([low * 0.9, high * 1.1], [BOTTOM, TOP]);
  const line = (points) => points.filter(([, value]) => value >= low).map(([p, value]) => [x(p), y(value)]);
  const marks = [];
  if (isNumber(rank) && rank < length) {
    const [from, to] = [x(rank + 0.5), x(Math.min(length + 0.5, most))];
    marks.push(
      svg('rect', {x: from, y: TOP, width: Math.max(to - from, 0), height: BOTTOM - TOP, class: 'gone'}),
      upright(from, TOP + 14, 'cut', `cut at rank ${rank}`, from > RIGHT - 110),
    );
  }
  if (isNumber(effective)) {
    const place = x(Math.min(Math.max(effective, 1), length));
    marks.push(upright(place, BOTTOM - 8, 'effective', `effective rank${weighed ? ' by the data' : ''} ${+effective.toPrecision(2)}`, place > LEFT + 130));
  }
  if (isNumber(edge) && edge >= low && edge <= high) {
    marks.push(
      svg('line', {x1: LEFT, x2: RIGHT, y1: y(edge), y2: y(edge), class: 'edge'}),
      svg('text', {x: RIGHT - 4, y: y(edge) - 5, class: 'mark', 'text-anchor': 'end'}, 'noise edge'),
    );
  }
  return html(
    'div', {},
    picture(
      660, 360, `Singular values of ${layer} before the ${told}, ${rank} of ${length} kept`,
      axes({x, y, left: LEFT, right: RIGHT, top: TOP, bottom: BOTTOM, xName: 'index of the singular value, largest first', yName: weighed ? 'singular value, as the data weighs it' : 'singular value', yText: short}),
      at ? path(line(first), {class: 'first'}) : null,
      path(line(now), {class: 'now'}),
      marks,
    ),
    html('p', {class: 'hint'}, 'Solid: before this cut; shaded: what it took. ',
      at ? `Dotted: before the ${cutTold(run, layer, spectra[0].step, 'first cut,')}. ` : '',
      weighed ? 'The data weighs them: a direction counts as much as the outputs or the loss feel it. ' : '',
      isNumber(effective) ? EFFECTIVE + (weighed === false ? '' : OTHER) : '',
      isNumber(edge) ? `Noise edge: where values of random numbers of the same size would end${
        edge < low || edge > high ? `, ${short(edge)}, outside this picture` : ''}.` : ''),
    inNumbers(table(`Before the ${told}`, ['index', 'singular value'],
      now.slice(0, 64).map(([position, value]) => [position, short(value)]))),
  );
}

// The view begins empty, and is filled when the answer has come.
export function spectrum(state) {
  const known = state.run.layers.map((each) => each.name);
  if (!known.length) return html('p', {}, 'No layer is in these logs.');
  const layer = known.includes(state.layer) ? state.layer : state.worstLayer() ?? known[0];
  const held = document.activeElement?.id === 'cut'; // the view is filled anew under the keyboard
  const place = html('div', {'aria-live': 'polite'}, 'Loading …');
  const options = known.map((name) => html('option', {value: name, selected: name === layer}, name));
  const choice = html('select', {onchange: (event) => state.openLayer(event.target.value)}, options);
  askSpectra(state.run.run, layer).then((answer) => {
    const problems = [answer.problem, ...(answer.problems || [])].filter(Boolean);
    const told = problems.map((each) => html('p', {class: 'warning'}, each));
    const spectra = (answer.spectra || []).filter((each) => each.values.length);
    if (!spectra.length) {
      place.replaceChildren(...told, html('p', {}, `No singular values of ${layer} are here: it was never cut.`));
      return;
    }
    const shown = html('div', {});
    const label = html('output', {}, '');
    const kept = spectra.findIndex((each) => state.cut?.layer === layer && each.step === state.cut.step);
    const start = kept < 0 ? spectra.length - 1 : kept;
    const one = spectra.every((each) => cutsOf(state.run, layer, each.step).length < 2) ? 'cut ' : '';
    const show = (at) => {
      label.textContent = ` ${cutTold(state.run, layer, spectra[at].step)} (${one}${at + 1} of ${spectra.length})`;
      slider.setAttribute('aria-valuetext', label.textContent);
      shown.replaceChildren(drawn(state.run, spectra, at, layer));
    };
    const slider = html('input', {
      type: 'range', id: 'cut', min: 0, max: spectra.length - 1, value: start, 'aria-label': 'cut',
      oninput: (event) => {
        const at = Number(event.target.value);
        state.cut = at < spectra.length - 1 ? {layer, step: spectra[at].step} : null;
        show(at);
      },
    });
    show(start);
    place.replaceChildren(...told, html('label', {class: 'slider'}, 'before the', slider, label), shown);
    if (held) slider.focus();
  });
  return html('div', {}, html('label', {}, 'layer ', choice), place);
}
