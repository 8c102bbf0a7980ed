// Elements, scales and axes. Names of runs and layers are untrusted: text only, never HTML.

const NS = 'http://www.w3.org/2000/svg';

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value);
  }
  for (const child of children.flat()) {
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
export function picture(width, height, label, ...children) {
  const box = {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label, class: 'picture'};
  return svg('svg', box, svg('title', {}, label), ...children);
}

export function linear([low, high], [from, to]) {
  const span = high - low || 1;
  const scale = (value) => from + ((value - low) / span) * (to - from);
  return Object.assign(scale, {ticks: (count = 5) => linearTicks(low, high, count)});
}

export function logarithmic([low, high], [from, to]) {
  const scale = linear([Math.log10(low), Math.log10(high)], [from, to]);
  const ticks = () => {
    const found = [];
    for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) found.push(10 ** power);
    return found.length > 1 ? found : linearTicks(low, high, 4);
  };
  return Object.assign((value) => scale(Math.log10(value)), {ticks});
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
      'tr', {}, row.map((cell, i) => html(i ? 'td' : 'th', i ? {} : {scope: 'row'}, cell)),
    ))),
  );
}

export function inNumbers(...children) {
  return html('details', {}, html('summary', {}, 'In numbers'), ...children);
}
