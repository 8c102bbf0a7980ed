// A metric against size over all runs, the best of each size marked.

import {bytes, isNumber, metricText, runName, seconds, short} from './data.js';
import {COLOURS, axes, html, inNumbers, linear, logarithmic, picture, svg, table} from './svg.js';

const SIZES = {
  params: ['parameters', short], flops: ['FLOPs per sample', short],
  file: ['size of the file', bytes], latency: ['latency per batch of 32', seconds],
};

// Runs that no other one beats in both.
export function pareto(points, direction) {
  const order = [...points].sort((a, b) => a.size - b.size || direction * (b.value - a.value));
  let best = -Infinity;
  return order.filter((each) => {
    const gain = direction * each.value;
    if (gain <= best) return false;
    best = gain;
    return true;
  });
}

function pointsOf(runs, size, metric) {
  return runs
    .map((each, i) => ({
      run: each.run, dense: each.dense, colour: COLOURS[i % COLOURS.length],
      size: each.final[size], value: each.final.metrics[metric],
    }))
    .filter((each) => isNumber(each.size) && isNumber(each.value) && each.size > 0);
}

// "1 MB", "300k", "2e6" -> a number; null where it is none.
export function sizeOf(text) {
  const found = /^\s*([\d.]+(?:e\d+)?)\s*([kmg]?)i?b?\s*$/i.exec(text);
  if (!found || !isNumber(Number(found[1]))) return null;
  return Number(found[1]) * {'': 1, k: 1e3, m: 1e6, g: 1e9}[found[2].toLowerCase()];
}

const NEAR = 10; // of two points, where one hides the other
const [RADIUS, RING, MOST] = [6, 3.5, 5]; // of a point; what each one that it would hide is larger by; how many of these

// Of each point those at its place, itself among them, the one that is drawn on top first.
export function places(points, at) {
  const found = [];
  for (const each of points) {
    const [x, y] = at(each);
    const here = found.find(({top}) => Math.hypot(x - at(top)[0], y - at(top)[1]) < NEAR);
    if (here) here.all.push(each);
    else found.push({top: each, all: [each]});
  }
  return found;
}

// Points at one place as rings around the one on top, so that each colour is seen; all are told where one points.
function dots({top, all}, at, front, told) {
  const title = all.map(told).join('\n');
  const drawn = all.slice(0, MOST).map((each, i) => {
    const radius = RADIUS + RING * i;
    const [x, y] = at(i ? top : each);
    const shape = each.dense ? {x: x - radius + 1, y: y - radius + 1, width: 2 * radius - 2, height: 2 * radius - 2} : {cx: x, cy: y, r: radius};
    const kind = front.includes(each) ? 'series best' : 'series other';
    return svg(each.dense ? 'rect' : 'circle', {...shape, fill: each.colour, class: kind}, svg('title', {}, title));
  });
  return drawn.reverse();
}

const LONGEST = 26; // letters of a name in the picture
const [WIDE, HIGH] = [6.9, 14]; // of a letter, at most

// Names beside their points where there is room for them; the others stand in the table.
function labels(points, at, {left, right, top, bottom}, lines) {
  const taken = lines.concat(points.map((each) => {
    const [x, y] = at(each);
    return [x - 7, y - 7, x + 7, y + 7];
  }));
  const free = ([a, b, c, d]) => a >= left && c <= right && b >= top - 14 && d <= bottom
    && taken.every(([e, f, g, h]) => c < e || g < a || d < f || h < b);
  return points.map((each) => {
    const [x, y] = at(each);
    const name = runName(each.run).length > LONGEST ? `${runName(each.run).slice(0, LONGEST - 1)}…` : runName(each.run);
    const width = name.length * WIDE;
    const places = [[9, -8], [9, 12], [-9 - width, -8], [-9 - width, 12], [-width / 2, -14], [-width / 2, 21], [12, -24], [12, 28]];
    for (const [dx, dy] of places) {
      const box = [x + dx, y + dy - HIGH + 3, x + dx + width, y + dy + 3];
      if (!free(box)) continue;
      taken.push(box);
      const end = dx < -9;
      return svg('text', {x: end ? x + dx + width : x + dx, y: y + dy, class: 'mark', 'text-anchor': end ? 'end' : 'start'}, name);
    }
    return null;
  });
}

function chart(points, front, size, metric, limit) {
  const [left, right, top, bottom] = [72, 680, 28, 340];
  const [name, text] = SIZES[size];
  const sizes = points.map((each) => each.size);
  const values = points.map((each) => each.value);
  const span = Math.max(...values) - Math.min(...values) || Math.abs(values[0]) || 1;
  const x = logarithmic([Math.min(...sizes) / 1.3, Math.max(...sizes) * 1.6], [left, right]);
  const y = linear([Math.min(...values) - span / 10, Math.max(...values) + span / 10], [bottom, top]);
  const stairs = front.map((each, i) => {
    const next = i + 1 < front.length ? x(front[i + 1].size) : right;
    return `${i ? 'L' : 'M'}${x(each.size)} ${y(each.value)}L${next} ${y(each.value)}`;
  }).join('');
  const at = (each) => [x(each.size), y(each.value)];
  const ordered = [...points].sort((a, b) => front.includes(b) - front.includes(a));
  const spots = places(ordered, at);
  const within = limit && limit >= Math.min(...sizes) / 1.3 && limit <= Math.max(...sizes) * 1.6;
  return picture(
    700, 380, `${metric} against ${name} of ${points.length} runs`,
    axes({x, y, left, right, top, bottom, xName: name, yName: metric, xText: text, yText: (v) => metricText(v, metric)}),
    svg('path', {d: stairs, class: 'front'}),
    within ? svg('line', {x1: x(limit), x2: x(limit), y1: top, y2: bottom, class: 'limit'}) : null,
    within ? svg('text', {x: x(limit) + 5, y: bottom - 6, class: 'mark'}, `at most ${text(limit)}`) : null,
    spots.flatMap((each) => dots(each, at, front, (one) => `${runName(one.run)}: ${metricText(one.value, metric)} at ${text(one.size)}`)),
    labels(ordered, at, {left, right, top, bottom},
      within ? [[x(limit), top, x(limit), bottom], [x(limit), bottom - 20, x(limit) + 130, bottom]] : []),
  );
}

function answer(points, direction, limit, size, metric) {
  const text = SIZES[size][1];
  const fitting = points.filter((each) => each.size <= limit);
  if (!fitting.length) return `No run is within ${text(limit)}.`;
  const best = fitting.reduce((a, b) => (direction * b.value > direction * a.value ? b : a));
  return `Best within ${text(limit)}: ${runName(best.run)}, ${metric} ${metricText(best.value, metric)} at ${text(best.size)}.`;
}

export function frontier(state) {
  const {runs} = state;
  const metrics = [...new Set(runs.flatMap((each) => Object.keys(each.final.metrics)))];
  const sizes = Object.keys(SIZES).filter((key) => runs.some((each) => isNumber(each.final[key])));
  if (!metrics.length || !sizes.length) {
    return html('p', {}, 'No metric is in these logs: give fit validation data, or metrics.');
  }
  const chosen = state.frontier;
  if (!metrics.includes(chosen.metric)) chosen.metric = state.run.main ?? metrics[0];
  if (!sizes.includes(chosen.size)) chosen.size = sizes.includes('file') ? 'file' : sizes[0];
  const place = html('div', {'aria-live': 'polite'});
  const show = () => {
    const points = pointsOf(runs, chosen.size, chosen.metric);
    if (!points.length) {
      place.replaceChildren(html('p', {}, 'No run has both this size and this metric.'));
      return;
    }
    const direction = runs.map((each) => each.directions[chosen.metric]).find(Boolean) ?? 1;
    const front = pareto(points, direction);
    const limit = sizeOf(chosen.limit);
    const text = SIZES[chosen.size][1];
    const rows = [...points].sort((a, b) => a.size - b.size).map((each) => [
      runName(each.run), text(each.size), metricText(each.value, chosen.metric),
      front.includes(each) ? 'yes' : '', each.dense ? 'dense' : '',
    ]);
    place.replaceChildren(
      limit ? html('p', {class: 'answer'}, answer(points, direction, limit, chosen.size, chosen.metric)) : '',
      chart(points, front, chosen.size, chosen.metric, limit),
      html('p', {class: 'hint'}, 'Line and outlined points: no other run is better at that size or below. Squares: dense runs. ',
        'Rings of other colours around a point: runs at the same place; point at them for all. Names that found no room are in the numbers.'),
      inNumbers(table('All runs, by size', ['run', SIZES[chosen.size][0], chosen.metric, 'on the front', ''], rows)),
    );
  };
  const select = (name, values, told) => html('label', {}, `${name} `, html(
    'select', {onchange: (event) => { chosen[name] = event.target.value; show(); }},
    values.map((value) => html('option', {value, selected: value === chosen[name]}, told(value))),
  ));
  const limit = html('label', {}, 'at most ', html('input', {
    type: 'text', size: 8, placeholder: '1 MB', value: chosen.limit, 'aria-label': 'largest size',
    oninput: (event) => { chosen.limit = event.target.value; show(); },
  }));
  show();
  return html('div', {}, html('div', {class: 'choices'},
    select('metric', metrics, String), select('size', sizes, (key) => SIZES[key][0]), limit), place);
}
