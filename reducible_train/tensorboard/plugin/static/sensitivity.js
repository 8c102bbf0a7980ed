// Layer x ratio: the metric where that layer alone is cut.

import {isNumber, lostText, metricText, percent, short} from './data.js';
import {html, shade} from './svg.js';

// The layer and the ratio where most is lost.
function mostSensitive({kernels, ratios, baseline, direction, metric}) {
  const all = kernels.flatMap((k) => k.values.map((value, i) => ({name: k.name, value, ratio: ratios[i]})));
  const known = all.filter((each) => isNumber(each.value) && isNumber(baseline));
  if (!known.length) return '';
  const lost = (each) => direction * (baseline - each.value);
  const worst = known.reduce((a, b) => (lost(b) > lost(a) ? b : a));
  if (lost(worst) <= 0) return `No layer alone costs anything, down to ${percent(Math.min(...ratios.filter(isNumber)), 2)} of its parameters.`;
  return `Most sensitive: ${worst.name}. At ${percent(worst.ratio, 2)} of its parameters ${metric} is ${lostText(lost(worst), metric)} worse.`;
}

export function sensitivity(state) {
  const {analysis} = state.run;
  if (!analysis) {
    return html('p', {}, 'No analysis is in these logs. Make one, and give it to the callback: '
      + 'RankTensorBoard(scheduler, "logs", analysis=analyze(model, data)).');
  }
  const {kernels, ratios, baseline, direction, metric} = analysis;
  const losses = kernels.flatMap((k) => k.values.filter(isNumber).map((v) => direction * (baseline - v)));
  const worst = Math.max(...losses, 1e-12);
  const cell = (value, rank) => {
    if (!isNumber(value)) return html('td', {}, '–');
    const part = 1 - Math.max(direction * (baseline - value), 0) / worst;
    const style = `background:${shade(part)};color:${part > 0.45 ? '#111' : '#fff'}`;
    return html('td', {style, title: `rank ${short(rank)}`}, metricText(value, metric));
  };
  const rows = kernels.map((k) => html(
    'tr', {}, html('th', {scope: 'row'}, k.name), html('td', {}, percent(k.share, 2)),
    html('td', {}, short(k.effective_rank)), k.values.map((value, i) => cell(value, k.ranks[i])),
  ));
  const head = ['layer', 'of all parameters', 'effective rank of the kernel alone', ...ratios.map((each) => percent(each, 2))];
  return html(
    'div', {class: 'wide'},
    html('p', {class: 'answer'}, mostSensitive(analysis)),
    html('table', {class: 'heat'},
      html('caption', {}, `${metric} of the model where one layer alone is cut to a share of its parameters; ${metricText(baseline, metric)} where none is. Dark: much is lost.`),
      html('thead', {}, html('tr', {}, head.map((each) => html('th', {scope: 'col'}, each)))), html('tbody', {}, rows)),
    ratios.some((each) => each >= 1) ? html('p', {class: 'hint'}, 'At 100 % a layer has factors that hold as many numbers as its kernel did. '
      + 'Their rank is below full rank, so even there the model may be worse than where nothing is cut; layers that save nothing stay dense.') : null,
    html('p', {class: 'hint'}, 'Effective rank of the kernel alone: of its own singular values, not weighed by data as those of the spectra may be, which have a lower one then.'),
  );
}
