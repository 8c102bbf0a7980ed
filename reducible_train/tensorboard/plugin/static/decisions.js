// What was cut, what was undone and why, and why a layer stayed dense.

import {cutsAt, isNumber, lostText, metricText, placeOf, short, tinyShare} from './data.js';
import {html, table} from './svg.js';

function reached(each) {
  const budgets = Object.entries(each.budgets);
  if (budgets.length) return budgets.map(([name, value]) => `${name} ${short(value)}`).join(', ');
  return `${each.quantity || 'target'} ${short(each.target)}`;
}

function change(before, after, name) {
  return isNumber(before) && isNumber(after) ? `${metricText(before, name)} → ${metricText(after, name)}` : '–';
}

// The metric that a guard watches, by what the logs say of it.
function judged(run) {
  return /monitor='([^']*)'/.exec(run.outcome.guard || '')?.[1];
}

// What the metric was at the ends of the epochs before and after a cut, and what that cost.
function cost(found, name, steepest) {
  if (!found) return '–';
  const lost = found.cost > 0 ? `${lostText(found.cost, name)} worse` : 'no worse';
  const told = [html('div', {}, change(found.before, found.after, name)), html('div', {}, lost)];
  return steepest ? [...told, html('div', {}, html('strong', {}, steepest))] : told;
}

const FEW = 6;

function ranksOf(cut) {
  const each = cut.kernels.map((k) => `${k.name} ${k.before ?? 'dense'} → ${k.rank ?? 'dense'}`);
  if (each.length <= FEW) return each.map((told) => html('div', {class: 'ranks'}, told));
  return html('details', {}, html('summary', {}, `${each.length} layers`), each.map((told) => html('div', {class: 'ranks'}, told)));
}

// The head of the column that says when, and its cells: an epoch alone where all were before theirs.
function times(all) {
  const before = all.every((each) => each.when === 'before');
  return before ? ['before epoch', (each) => each.at] : ['cut', (each) => placeOf(each).map((told) => html('div', {class: 'place'}, told))];
}

function cuts(run) {
  if (!run.cuts.length) {
    return html('p', {}, run.cut_steps.length
      ? `Ranks fell in ${run.cut_steps.length > 1 ? 'epochs' : 'epoch'} ${run.cut_steps.join(', ')}; these logs tell no more of it.`
      : 'Nothing was cut.');
  }
  const costs = new Map((run.costs[run.main] || []).map((each) => [each.step, each]));
  const worst = Math.max(...[...costs.values()].map((each) => each.cost), 0);
  const names = [...new Set(run.cuts.flatMap((each) => Object.keys(each.metrics_before)))];
  let named = false; // of several alike the first
  const shared = run.cuts.some((each) => cutsAt(run, each.at).length > 1);
  const [when, told] = times(run.cuts);
  const rows = run.cuts.map((each) => {
    const found = costs.get(each.at);
    const steepest = found?.cost > 0 && found.cost === worst && !named;
    named ||= steepest;
    return [
      told(each), reached(each), `${short(each.parameters_before)} → ${short(each.parameters)}`,
      tinyShare(each.output_error), ...names.map((name) => change(each.metrics_before[name], each.metrics_after[name], name)),
      cost(found, run.main, steepest && (cutsAt(run, each.at).length > 1 ? 'the costliest epoch' : 'the costliest')),
      each.undone ? html('span', {class: 'undone'}, 'undone', html('br'), `in epoch ${each.undone.undone_epoch ?? '–'}`) : 'stood',
      ranksOf(each),
    ];
  });
  const monitor = judged(run);
  const head = [when, 'to', 'parameters', 'output error', ...names.map((name) => `${name}, right before → after`),
    `${run.main ?? 'metric'}, an epoch before → after${monitor && monitor === run.main ? ' (the guard judges it)' : ''}`, 'then', 'ranks'];
  return [
    table('Cuts', head, rows, {class: 'figures'}),
    html('p', {class: 'hint'}, 'Output error: what the cut itself changed of the outputs, as a share of their variance; at 100 % they are as far off as their mean would be. ',
      names.length ? 'Right before → after: on some samples, with no training between. ' : '',
      shared ? 'Cuts of one epoch share what the metric did over it. ' : '',
      monitor ? `The guard judges ${monitor} at the ends of epochs, so after some training: a cut stands once it is within the bound.` : ''),
  ];
}

function undone(run) {
  if (!run.outcome.known) return html('p', {}, 'Whether a guard undid cuts, and why a layer stayed dense, is not in these logs.');
  if (!run.undone.length) return html('p', {}, run.outcome.guard ? 'No cut was undone.' : 'There was no guard.');
  const [when, told] = times(run.undone);
  const rows = run.undone.map((each) => [
    told(each), each.undone_epoch ?? '–', reached(each), `${short(each.parameters_before)} → ${short(each.parameters)}`, each.reason,
  ]);
  return table('Why cuts were undone', [when, 'undone in epoch', 'to', 'parameters', 'why'], rows);
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
