// What was cut, what was undone and why, and why a layer stayed dense.

import {isNumber, metricText, percent, short} from './data.js';
import {html, table} from './svg.js';

function reached(each) {
  const budgets = Object.entries(each.budgets);
  if (budgets.length) return budgets.map(([name, value]) => `${name} ${short(value)}`).join(', ');
  return `${each.quantity || 'target'} ${short(each.target)}`;
}

function change(each, name) {
  const [before, after] = [each.metrics_before[name], each.metrics_after[name]];
  return isNumber(before) && isNumber(after) ? `${metricText(before, name)} → ${metricText(after, name)}` : '–';
}

function cuts(run) {
  if (!run.cuts.length) {
    return html('p', {}, run.cut_steps.length
      ? `Ranks fell in epoch ${run.cut_steps.join(', ')}; more these logs do not tell.` : 'Nothing was cut.');
  }
  const costs = new Map((run.costs[run.main] || []).map((each) => [each.step, each.cost]));
  const worst = Math.max(...costs.values(), 0);
  const names = [...new Set(run.cuts.flatMap((each) => Object.keys(each.metrics_before)))];
  const rows = run.cuts.map((each) => {
    const cost = costs.get(each.at);
    const told = isNumber(cost) ? (cost > 0 ? metricText(cost, run.main) : 'none') : '–';
    return [
      each.at, reached(each), `${short(each.parameters_before)} → ${short(each.parameters)}`,
      percent(each.output_error, 2), ...names.map((name) => change(each, name)),
      cost > 0 && cost === worst ? html('strong', {}, `${told}, the costliest`) : told,
      each.kernels.map((k) => `${k.name} ${k.before ?? 'dense'} → ${k.rank ?? 'dense'}`).slice(0, 6).join(', ')
        + (each.kernels.length > 6 ? `, and ${each.kernels.length - 6} more` : ''),
    ];
  });
  const head = ['epoch', 'to', 'parameters', 'output error', ...names.map((name) => `${name}, right before → after`),
    `${run.main ?? 'metric'} lost over the epoch`, 'ranks'];
  return table('Cuts that stood at the end of their epoch', head, rows);
}

function undone(run) {
  if (!run.undone.length) return html('p', {}, run.outcome.guard ? 'No cut was undone.' : 'There was no guard.');
  const rows = run.undone.map((each) => [
    each.at, each.undone_epoch ?? '–', reached(each), `${short(each.parameters_before)} → ${short(each.parameters)}`, each.reason,
  ]);
  return table('Cuts that were undone', ['epoch', 'undone in', 'to', 'parameters', 'why'], rows);
}

function dense(run) {
  const rows = run.layers.filter((each) => each.reason || each.remark).map((each) => [
    each.name, each.kind, each.shape.join(' x '), short(each.dense_parameters), each.reason || each.remark,
  ]);
  return rows.length
    ? table('Layers that stayed dense, and remarks', ['layer', 'kind', 'shape', 'parameters', 'why'], rows)
    : html('p', {}, 'Every layer was cut.');
}

export function decisions(state) {
  const {run} = state;
  const {guard, search, notes} = run.outcome;
  return html(
    'div', {},
    guard ? html('p', {}, 'Guard: ', html('code', {}, guard)) : null,
    search ? html('p', {}, 'Search: ', html('code', {}, search)) : null,
    html('div', {class: 'wide'}, cuts(run)), html('div', {class: 'wide'}, undone(run)),
    html('div', {class: 'wide'}, dense(run)), html('ul', {}, notes.map((each) => html('li', {}, each))),
  );
}
