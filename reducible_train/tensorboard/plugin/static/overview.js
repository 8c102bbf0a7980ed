// What was asked and reached, the size, the metric, and what to do next.

import {bytes, isNumber, metricText, percent, seconds, short} from './data.js';
import {html, table} from './svg.js';

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
  return `of ${text(dense)}, ${percent(1 - now / dense)} fewer`;
}

function cards(run) {
  const {outcome, final, main, costs} = run;
  const found = [
    card('Parameters', short(final.params), fewer(final.params, outcome.dense_parameters, short)),
    card('FLOPs of a sample', short(final.flops), fewer(final.flops, outcome.dense_flops, short)),
    card('File', bytes(final.file), isNumber(final.file) ? 'as save_model writes it, about' : 'known at the end'),
  ];
  if (isNumber(final.latency)) found.push(card('Latency', seconds(final.latency), 'of a batch'));
  if (main) {
    const worst = [...(costs[main] || [])].sort((a, b) => b.cost - a.cost)[0];
    const more = worst && worst.cost > 0
      ? `costliest cut: epoch ${worst.step}, by ${metricText(worst.cost, main)}` : '';
    found.push(card(main, metricText(final.metrics[main], main), more));
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
  return table('What was asked, and what was reached', ['target', 'schedule', 'final value', 'reached'], rows);
}

export function overview(state) {
  const {run} = state;
  const told = [...run.problems, ...run.outcome.notes];
  return html(
    'div', {},
    run.outcome.shortfall ? html('p', {class: 'warning', role: 'alert'}, run.outcome.shortfall) : null,
    run.done ? null : html('p', {class: 'note'}, 'The training has not ended, or was broken off.'),
    cards(run),
    html('h2', {}, 'What to do next'),
    run.advice.length
      ? html('ol', {class: 'advice'}, run.advice.map((each) => html('li', {}, each)))
      : html('p', {}, 'Nothing stands out.'),
    html('h2', {}, 'Asked and reached'),
    asked(run.outcome),
    told.length ? html('h2', {}, 'Notes') : null,
    html('ul', {}, told.map((each) => html('li', {}, each))),
  );
}
