// What was cut, what was undone and why, and why a layer stayed dense.

import {isNumber, lostText, metricText, short, tinyShare} from './data.js';
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

const FEW = 6;

function ranksOf(cut) {
  const each = cut.kernels.map((k) => `${k.name} ${k.before ?? 'dense'} → ${k.rank ?? 'dense'}`);
  if (each.length <= FEW) return each.map((told) => html('div', {class: 'ranks'}, told));
  return html('details', {}, html('summary', {}, `${each.length} layers`), each.map((told) => html('div', {class: 'ranks'}, told)));
}

function cuts(run) {
  if (!run.cuts.length) {
    return html('p', {}, run.cut_steps.length
      ? `Ranks fell in ${run.cut_steps.length > 1 ? 'epochs' : 'epoch'} ${run.cut_steps.join(', ')}; these logs tell no more of it.`
      : 'Nothing was cut.');
  }
  const costs = new Map((run.costs[run.main] || []).map((each) => [each.step, each.cost]));
  const worst = Math.max(...costs.values(), 0);
  const names = [...new Set(run.cuts.flatMap((each) => Object.keys(each.metrics_before)))];
  let named = false; // of several alike the first
  const rows = run.cuts.map((each) => {
    const cost = costs.get(each.at);
    const told = isNumber(cost) ? (cost > 0 ? lostText(cost, run.main) : 'none') : '–';
    const taken = run.undone.find((u) => u.at === each.at && u.parameters === each.parameters);
    const steepest = cost > 0 && cost === worst && !named;
    named ||= steepest;
    return [
      each.at, reached(each), `${short(each.parameters_before)} → ${short(each.parameters)}`,
      tinyShare(each.output_error), ...names.map((name) => change(each, name)),
      steepest ? [told, html('div', {}, html('strong', {}, 'the costliest'))] : told,
      taken ? html('span', {class: 'undone'}, 'undone', html('br'), `in epoch ${taken.undone_epoch ?? '–'}`) : 'stood',
      ranksOf(each),
    ];
  });
  const head = ['epoch', 'to', 'parameters', 'output error', ...names.map((name) => `${name}, right before → after`),
    `${run.main ?? 'metric'} lost in that epoch`, 'then', 'ranks'];
  return table('Cuts', head, rows, {class: 'figures'});
}

function undone(run) {
  if (!run.outcome.known) return html('p', {}, 'Whether a guard undid cuts, and why a layer stayed dense, is not in these logs.');
  if (!run.undone.length) return html('p', {}, run.outcome.guard ? 'No cut was undone.' : 'There was no guard.');
  const rows = run.undone.map((each) => [
    each.at, each.undone_epoch ?? '–', reached(each), `${short(each.parameters_before)} → ${short(each.parameters)}`, each.reason,
  ]);
  return table('Why cuts were undone', ['epoch', 'undone in', 'to', 'parameters', 'why'], rows);
}

function dense(run) {
  const rows = run.layers.filter((each) => each.reason || each.remark).map((each) => [
    each.name, each.kind, each.shape.join(' x '), short(each.dense_parameters), each.reason || each.remark,
  ]);
  return rows.length
    ? table('Layers that stayed dense, and remarks', ['layer', 'kind', 'shape', 'parameters', 'why'], rows)
    : html('p', {}, run.outcome.known ? 'Every layer was cut.' : '');
}

export function decisions(state) {
  const {run} = state;
  const {guard, search, notes} = run.outcome;
  return html(
    'div', {},
    guard ? html('p', {}, 'Guard: ', html('code', {}, guard)) : null,
    search ? html('p', {}, 'Search: ', html('code', {}, search)) : null,
    html('div', {class: 'wide'}, cuts(run)), html('div', {class: 'wide'}, undone(run)),
    html('div', {class: 'wide'}, dense(run)),
    notes.length ? html('h2', {}, 'Notes') : null, html('ul', {}, notes.map((each) => html('li', {}, each))),
  );
}
