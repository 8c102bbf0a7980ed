// What was asked and reached, the size, the metric, and what to do next.

import {bytes, cutsAt, isNumber, lostText, metricText, percent, seconds, short} from './data.js';
import {axes, cutLines, cutsTold, epochs, html, inNumbers, linear, path, picture, stairs, svg, table} from './svg.js';

function card(name, value, more) {
  return html(
    'div', {class: 'card'},
    html('div', {class: 'card-name'}, name),
    html('div', {class: 'card-value'}, value),
    html('div', {class: 'card-more'}, more || ''),
  );
}

function fewer(now, dense, text) {
  if (!isNumber(now) || !isNumber(dense) || !dense) return '';
  return now === dense ? 'as in the dense model' : `of ${text(dense)}, ${percent(1 - now / dense)} fewer`;
}

function costliest(run) {
  const costs = (run.costs[run.main] || []).filter((each) => each.cost > 0);
  return costs.length ? costs.reduce((a, b) => (b.cost > a.cost ? b : a)) : null;
}

// The metric over the epochs, above the size at which it was measured.
function course(run) {
  const {main, steps, params, outcome} = run;
  const values = main ? run.metrics[main] : [];
  if (steps.length < 2 || !values.some(isNumber)) return null;
  const [left, right, top, middle, below, bottom] = [64, 860, 24, 170, 202, 272];
  const known = values.filter(isNumber);
  const span = Math.max(...known) - Math.min(...known) || Math.abs(known[0]) || 1;
  const x = linear([steps[0] - 0.5, steps.at(-1) + 0.5], [left, right]);
  const y = linear([Math.min(...known) - span / 12, Math.max(...known) + span / 6], [middle, top]);
  const dense = outcome.dense_parameters || Math.max(...params.filter(isNumber));
  const size = linear([0, 1], [bottom, below]);
  const sizes = stairs(params.map((each) => (isNumber(each) ? each / dense : null)),
    (i) => [x(steps[i] - 0.5), x(steps[i] + 0.5)], size);
  const worst = costliest(run);
  return html(
    'figure', {},
    picture(
      880, 312, `${main} and parameters over ${steps.length} epochs`,
      axes({x: {ticks: () => []}, y, left, right, top, bottom: middle, xName: '', yName: main, yText: (v) => metricText(v, main)}),
      axes({x: epochs(x), y: Object.assign((v) => size(v), {ticks: () => [0, 0.5, 1]}),
        left, right, top: below, bottom, xName: 'epoch', yName: 'parameters, of the dense model', yText: percent}),
      cutLines(run, x, top, bottom),
      path(sizes, {class: 'size'}),
      path(steps.map((step, i) => [x(step), isNumber(values[i]) ? y(values[i]) : null]), {class: 'now'}),
      worst ? [[x(worst.step), y(worst.after)], [right - 5, top - 12]].map(([cx, cy]) => svg('circle', {cx, cy, r: 5, class: 'worst'})) : null,
      worst ? svg('text', {x: right - 16, y: top - 8, class: 'name', 'text-anchor': 'end'},
        `after the costliest ${cutsAt(run, worst.step).length > 1 ? 'cuts' : 'cut'}, ${run.when[worst.step]} epoch ${worst.step}: ${lostText(worst.cost, main)} worse`) : null,
    ),
    html('figcaption', {class: 'hint'}, cutsTold(run)),
    inNumbers(table('Epoch by epoch', ['epoch', main, 'parameters'],
      steps.map((step, i) => [step, metricText(values[i], main), short(params[i])]))),
  );
}

function untold(run) {
  return run.done || !run.outcome.known ? 'not in these logs' : 'known when training ends';
}

function cards(run) {
  const {outcome, final, main} = run;
  const found = [
    card('Parameters', short(final.params), fewer(final.params, outcome.dense_parameters, short)),
    card('FLOPs per sample', short(final.flops), fewer(final.flops, outcome.dense_flops, short)),
    card('File', bytes(final.file), isNumber(final.file) ? 'estimate for save_model' : untold(run)),
  ];
  if (isNumber(final.latency)) found.push(card('Latency', seconds(final.latency), 'per batch of 32'));
  if (main) {
    const worst = costliest(run);
    const more = worst ? [`costliest ${cutsAt(run, worst.step).length > 1 ? 'cuts' : 'cut'}: epoch ${worst.step}, ${lostText(worst.cost, main)}`] : [];
    if (final.put_back && final.step !== run.steps.at(-1)) more.unshift(`of epoch ${final.step}, whose weights were kept`);
    found.push(card(main, metricText(final.metrics[main], main), more.join('; ')));
  }
  return html('div', {class: 'cards'}, found);
}

function asked(outcome) {
  if (!outcome.asked.length) {
    return html('p', {}, outcome.search ? 'The search chose the budget; see its decisions.' : 'What was asked for is not in these logs.');
  }
  const rows = outcome.asked.map((each) => [
    each.name, each.schedule || short(each.value), short(each.value), short(each.reached),
  ]);
  return table('What the size was to be, and what it is', ['target', 'schedule', 'final value', 'reached'], rows);
}

export function overview(state) {
  const {run} = state;
  const lost = run.outcome.diverged ? `At the end of the training, ${run.outcome.diverged}.` : null;
  const warnings = [lost, run.outcome.shortfall].filter((each) => each);
  const told = [...run.problems, ...run.outcome.notes].filter((each) => !warnings.includes(each));
  return html(
    'div', {},
    warnings.map((each) => html('p', {class: 'warning', role: 'alert'}, each)),
    run.done || !run.outcome.known ? null : html('p', {class: 'note'}, 'The training has not ended, or was broken off.'),
    cards(run),
    course(run),
    html('h2', {}, 'What stands out, and what to do'),
    run.advice.length
      ? html('ol', {class: 'advice'}, run.advice.map((each) => html('li', {}, each)))
      : html('p', {}, 'Nothing stands out.'),
    run.advice.some((each) => each.includes('variance of its outputs'))
      ? html('p', {class: 'hint'}, 'Variance of its outputs: on data, since the layer was dense; at 100 % they are no better than their mean.') : null,
    run.advice.some((each) => each.includes('of its energy'))
      ? html('p', {class: 'hint'}, 'Energy: the share of its squared singular values that a kernel has kept since it was dense.') : null,
    html('h2', {}, 'Asked and reached'),
    asked(run.outcome),
    told.length ? html('h2', {}, 'Notes') : null,
    html('ul', {}, told.map((each) => html('li', {}, each))),
  );
}
