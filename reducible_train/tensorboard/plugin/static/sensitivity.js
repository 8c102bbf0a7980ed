// Layer x ratio: the metric where that layer alone is cut.

import {isNumber, metricText, percent, short} from './data.js';
import {html, shade} from './svg.js';

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
  const head = ['layer', 'of all parameters', 'effective rank', ...ratios.map((each) => percent(each, 2))];
  return html(
    'div', {class: 'wide'},
    html('table', {class: 'heat'},
      html('caption', {}, `${metric} where one layer alone keeps so much of its parameters; ${metricText(baseline, metric)} as it is. Dark: much is lost.`),
      html('thead', {}, html('tr', {}, head.map((each) => html('th', {scope: 'col'}, each)))), html('tbody', {}, rows)),
  );
}
