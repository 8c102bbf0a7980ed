// Elements, scales and axes. Names of runs and layers are untrusted: text only, never HTML.

import {cutsAt, isNumber} from './data.js';

const NS = 'http://www.w3.org/2000/svg';

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
  for (const child of children.flat(2)) {
    if (child !== null && child !== undefined) {
      node.append(child instanceof Node ? child : String(child));
    }
  }
  return node;
}

export function html(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(NS, name), attributes, children);
}

// A picture of a fixed size in its own units that grows with the page; `label` says what it shows.
// One that has buttons in it is a group: of an image a screen reader knows the name alone.
export function picture(width, height, label, ...children) {
  return drawing(width, height, label, 'img', children);
}

export function group(width, height, label, ...children) {
  return drawing(width, height, label, 'group', children);
}

function drawing(width, height, label, role, children) {
  const box = {viewBox: `0 0 ${width} ${height}`, role, 'aria-label': label, class: 'picture'};
  return svg('svg', box, svg('title', {}, label), children);
}

export function linear([low, high], [from, to]) {
  const span = high - low || 1;
  const scale = (value) => from + ((value - low) / span) * (to - from);
  return Object.assign(scale, {ticks: (count = 5) => linearTicks(low, high, count)});
}

export function logarithmic([low, high], [from, to]) {
  const scale = linear([Math.log10(low), Math.log10(high)], [from, to]);
  return Object.assign((value) => scale(Math.log10(value)), {ticks: () => powers(low, high)});
}

// Powers of ten, with their doubles and halves where these are few.
function powers(low, high) {
  const found = [];
  const between = Math.log10(high / low) > 3.5 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const each of between) {
      const tick = +(each * 10 ** power).toPrecision(3);
      if (tick >= low && tick <= high) found.push(tick);
    }
  }
  return found.length > 2 ? found : linearTicks(low, high, 4);
}

// A scale of epochs, which are whole.
export function epochs(scale) {
  return Object.assign((value) => scale(value), {ticks: () => scale.ticks(8).filter(Number.isInteger)});
}

function linearTicks(low, high, count) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
    found.push(+(i * step).toPrecision(12));
  }
  return found;
}

// Axes with their ticks, and names; `x` and `y` are scales.
export function axes({x, y, left, right, top, bottom, xName, yName, xText = String, yText = String}) {
  const ticks = [];
  for (const value of x.ticks()) {
    const at = x(value);
    ticks.push(
      svg('line', {x1: at, x2: at, y1: top, y2: bottom, class: 'grid'}),
      svg('text', {x: at, y: bottom + 15, class: 'tick', 'text-anchor': 'middle'}, xText(value)),
    );
  }
  for (const value of y.ticks()) {
    const at = y(value);
    ticks.push(
      svg('line', {x1: left, x2: right, y1: at, y2: at, class: 'grid'}),
      svg('text', {x: left - 6, y: at + 4, class: 'tick', 'text-anchor': 'end'}, yText(value)),
    );
  }
  return svg(
    'g',
    {'aria-hidden': 'true'},
    ticks,
    svg('text', {x: right, y: bottom + 32, class: 'name', 'text-anchor': 'end'}, xName),
    svg('text', {x: left, y: top - 8, class: 'name'}, yName),
  );
}

// What holds from one epoch to the next, as stairs: `at` gives the left and the right end of epoch i.
export function stairs(values, at, y) {
  return values.flatMap((value, i) => at(i).map((x) => [x, isNumber(value) ? y(value) : null]));
}

// What holds of an epoch is drawn from its left end on, and each line stands there: before its first
// step most cuts are made, but those of a cadence in steps, or that waited for samples, within it.
export function cutLines(run, x, top, bottom) {
  const undone = new Set(run.undone.map((each) => each.at));
  return run.cut_steps.map((step) => svg(
    'line',
    {x1: x(step - 0.5), x2: x(step - 0.5), y1: top, y2: bottom, class: undone.has(step) ? 'cut undone' : 'cut'},
    svg('title', {}, `${cutsAt(run, step).length > 1 ? 'cuts' : 'cut'} ${run.when[step]} epoch ${step}${undone.has(step) ? ', undone later' : ''}`),
  ));
}

export function cutsTold(run) {
  if (!run.cut_steps.length) return '';
  const faint = run.undone.length ? '; the faint ones were undone by the guard' : '';
  const first = run.cut_steps[0];
  const place = first > 0 ? `: that of epoch ${first} between ${first - 1} and ${first}` : '';
  const words = [...new Set(run.cut_steps.map((step) => run.when[step]))];
  if (words.length === 1 && words[0] === 'before') return `Dotted lines: cuts, at the start of their epochs${place}${faint}.`;
  return `Dotted lines: cuts, drawn at the start of the epoch ${words.length === 1 ? words[0] : 'before or in'} which they were made${place}${faint}.`;
}

// A line through the points that are there; a gap where one is missing.
export function path(points, attributes) {
  let told = '';
  let pen = 'M';
  for (const [x, y] of points) {
    if (x === null || y === null || Number.isNaN(y)) {
      pen = 'M';
    } else {
      told += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = 'L';
    }
  }
  return svg('path', {d: told, fill: 'none', ...attributes});
}

// Colours that stay apart for people who do not see all of them.
export const COLOURS = [
  '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9',
  '#7a5195', '#8c6d31', '#b22222', '#2f7f7f', '#9b9b00', '#5b6c8f',
];

// 0 ... 1 -> dark ... light blue, legible on both backgrounds.
export function shade(share) {
  const low = [12, 44, 92];
  const high = [186, 216, 240];
  const part = Math.sqrt(Math.max(0, Math.min(1, share))); // small shares stay apart
  const mixed = low.map((each, i) => Math.round(each + part * (high[i] - each)));
  return `rgb(${mixed.join(' ')})`;
}

// A table, for those who cannot see the picture, and for those who want the numbers.
export function table(caption, head, rows, attributes = {}) {
  return html(
    'table',
    attributes,
    html('caption', {}, caption),
    html('thead', {}, html('tr', {}, head.map((each) => html('th', {scope: 'col'}, each)))),
    html('tbody', {}, rows.map((row) => html(
      'tr', {}, row.map((cell, i) => html(i ? 'td' : 'th', i ? {} : {scope: 'row'}, ...[cell].flat())),
    ))),
  );
}

// Whoever has opened one of them finds all of them open.
let areOpen = false;

export function inNumbers(...children) {
  const keep = (event) => { areOpen = event.target.open; };
  return html('details', {open: areOpen, ontoggle: keep}, html('summary', {}, 'In numbers'), ...children);
}
