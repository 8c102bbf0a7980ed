// What the server tells. Relative to this module, so that a path prefix makes no difference.

const BASE = new URL('../', import.meta.url);

const FRACTIONS = new Set(); // names of metrics that are fractions, as the server knows them

function learnt(answer) {
  for (const each of [answer, ...(answer.runs || [])]) (each.fractions || []).forEach((name) => FRACTIONS.add(name));
  return answer;
}

// An answer as an object; what went wrong stands in `problem`, in words, and nothing is thrown.
async function ask(route, parameters = {}) {
  const url = new URL(route, BASE);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  try {
    const answer = await fetch(url, {cache: 'no-store'});
    return learnt(await answer.json());
  } catch (error) {
    return {problem: `TensorBoard does not answer (${error.message}). Is it still running?`};
  }
}

export const askRuns = () => ask('runs');
export const askRun = (run) => ask('run', {run});
export const askSpectra = (run, layer) => ask('spectra', {run, layer});

// --- numbers in words ---

const UNITS = [[1e9, ' G'], [1e6, ' M'], [1e3, ' k']];

export function isNumber(value) {
  return typeof value === 'number' && Number.isFinite(value);
}

export function short(value) {
  if (!isNumber(value)) return '–';
  for (const [size, unit] of UNITS) {
    if (Math.abs(value) >= 10 * size) return `${+(value / size).toPrecision(3)}${unit}`;
  }
  return Number.isInteger(value) ? value.toLocaleString('en') : `${+value.toPrecision(4)}`;
}

export function bytes(value) {
  if (!isNumber(value)) return '–';
  for (const [size, unit] of [[1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB']]) {
    if (value >= size) return `${+(value / size).toPrecision(3)} ${unit}`;
  }
  return `${value} B`;
}

export function seconds(value) {
  if (!isNumber(value)) return '–';
  return value < 1 ? `${+(1000 * value).toPrecision(3)} ms` : `${+value.toPrecision(3)} s`;
}

export function percent(value, digits = 3) {
  return isNumber(value) ? `${+(100 * value).toPrecision(digits)} %` : '–';
}

// As `is_fraction` of the server has it: a metric that is one is shown in percent.
function isFraction(value, name) {
  return Math.abs(value) <= 1 && FRACTIONS.has(name);
}

// A metric that is a fraction is shown in percent, another one as it is.
export function metricText(value, name) {
  return isFraction(value, name) ? percent(value, 4) : short(value);
}

// A difference of a metric: of one that is a fraction in points, so that it is no percent of something.
export function lostText(value, name) {
  if (!isNumber(value) || !isFraction(value, name)) return short(value);
  const points = +(100 * value).toPrecision(3);
  return `${points} ${points === 1 ? 'point' : 'points'}`;
}

// A share; what is too small to tell is not spelled out.
export function tinyShare(value) {
  return isNumber(value) && value > 0 && value < 1e-4 ? '< 0.01 %' : percent(value, 2);
}

// The cuts before and in an epoch, as far as the logs tell of them.
export function cutsAt(run, step) {
  return run.cuts.filter((each) => each.at === step);
}

// "before epoch 3"; "in epoch 3", "after 20 steps"; "before or in epoch 3" where the logs do not tell.
export function placeOf({when, at, epoch_step: steps}) {
  const place = `${when} epoch ${at}`;
  return when === 'in' && isNumber(steps) ? [place, `after ${short(steps)} ${steps === 1 ? 'step' : 'steps'}`] : [place];
}

// "logs/ramp/reducible" -> "logs/ramp": the last part is the same for all.
export function runName(run) {
  return run.replace(/\/?reducible(_\d+)?$/, (_, more) => (more ? ` ${more.slice(1)}` : '')) || run;
}
