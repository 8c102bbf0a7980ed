// The tab: a run, six views of it.

import {askRun, askRuns, isNumber, runName} from './data.js';
import {decisions} from './decisions.js';
import {frontier} from './frontier.js';
import {overview} from './overview.js';
import {ranks} from './ranks.js';
import {sensitivity} from './sensitivity.js';
import {spectrum} from './spectrum.js';
import {html} from './svg.js';

const VIEWS = {overview, ranks, spectrum, frontier, decisions, sensitivity};

const state = {
  runs: [], run: null, view: 'overview', layer: null, cut: null,
  frontier: {metric: null, size: null, limit: ''},
  openLayer(name) {
    state.layer = name;
    choose('spectrum');
  },
  // The factorised layer whose outputs have lost most, else the one that keeps least energy.
  worstLayer() {
    const cut = state.run.layers.filter((each) => isNumber(each.rank));
    const told = cut.filter((each) => isNumber(each.output_error));
    if (told.length) return told.reduce((a, b) => (b.output_error > a.output_error ? b : a)).name;
    const known = cut.filter((each) => isNumber(each.energy));
    return known.length ? known.reduce((a, b) => (b.energy < a.energy ? b : a)).name : null;
  },
};

const parts = {};

function followTheme() {
  const outside = () => {
    try {
      return window.parent.document.body.classList.contains('dark-mode');
    } catch {
      return window.matchMedia('(prefers-color-scheme: dark)').matches;
    }
  };
  const apply = () => document.documentElement.classList.toggle('dark', outside());
  apply();
  try {
    new MutationObserver(apply).observe(window.parent.document.body, {attributes: true, attributeFilter: ['class']});
  } catch {
    window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', apply);
  }
}

function shell() {
  const tabs = Object.keys(VIEWS).map((name) => html('button', {
    type: 'button', role: 'tab', id: `tab-${name}`, 'aria-controls': 'view', onclick: () => choose(name), onkeydown: step,
  }, name[0].toUpperCase() + name.slice(1)));
  parts.runs = html('select', {id: 'run', onchange: (event) => open(event.target.value)});
  parts.status = html('span', {class: 'status', role: 'status'});
  parts.view = html('section', {id: 'view', role: 'tabpanel', tabindex: 0});
  parts.tabs = html('div', {role: 'tablist', 'aria-label': 'Views'}, tabs);
  const refreshing = html('button', {type: 'button', id: 'refresh', onclick: refresh}, 'Refresh');
  return html(
    'main', {},
    html('header', {}, html('label', {}, 'run ', parts.runs), refreshing, parts.status), parts.tabs, parts.view,
  );
}

// Left and right go from tab to tab, as in every list of tabs.
function step(event) {
  const names = Object.keys(VIEWS);
  const move = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (!move) return;
  const next = (names.indexOf(state.view) + move + names.length) % names.length;
  choose(names[next]);
  parts.tabs.children[next].focus();
}

function choose(name) {
  state.view = name;
  show();
}

const REACHABLE = 'button, select, input, summary, [tabindex]';

// Fills the view anew; what is open and where the keyboard is stay so if the same view was there.
function show({same = false} = {}) {
  const {view} = parts;
  const opened = [...view.querySelectorAll('details')].map((each) => each.open);
  const at = [...view.querySelectorAll(REACHABLE)].indexOf(document.activeElement);
  fill();
  if (!same) return;
  view.querySelectorAll('details').forEach((each, i) => { each.open ||= Boolean(opened[i]); });
  if (at >= 0) [...view.querySelectorAll(REACHABLE)][at]?.focus();
}

function fill() {
  for (const tab of parts.tabs.children) {
    const chosen = tab.id === `tab-${state.view}`;
    tab.setAttribute('aria-selected', chosen);
    tab.tabIndex = chosen ? 0 : -1;
  }
  parts.view.setAttribute('aria-labelledby', `tab-${state.view}`);
  if (state.run) parts.view.replaceChildren(VIEWS[state.view](state));
}

function tell(problem) {
  parts.view.replaceChildren(html('p', {class: 'warning', role: 'alert'}, problem));
}

async function open(name) {
  parts.status.textContent = 'reading …';
  const answer = await askRun(name);
  parts.status.textContent = '';
  if (name !== parts.runs.value) return; // another one was chosen meanwhile
  if (answer.problem) {
    state.run = null;
    tell(answer.problem);
    return;
  }
  const told = JSON.stringify(answer);
  const same = state.run?.run === answer.run;
  if (same && told === parts.told && state.view !== 'frontier') return;
  parts.told = told;
  state.run = answer;
  show({same});
}

const SOON = 3000; // milliseconds to the next look where nothing is there yet
const LATER = 20000; // while a training goes on

// Looks again by itself until the runs that are shown have ended.
function lookAgain() {
  clearTimeout(parts.timer);
  if (!state.run) parts.timer = setTimeout(refresh, SOON);
  else if (!state.run.done && state.run.outcome.known) parts.timer = setTimeout(refresh, LATER);
}

async function refresh() {
  parts.status.textContent = 'reading …';
  const answer = await askRuns();
  parts.status.textContent = '';
  state.runs = answer.runs || [];
  const before = parts.runs.value;
  parts.runs.replaceChildren(...state.runs.map((each) => html('option', {value: each.run}, runName(each.run))));
  if (answer.problem || !state.runs.length) {
    state.run = null;
    tell(answer.problem || 'No run is here yet.');
    lookAgain();
    return;
  }
  const names = state.runs.map((each) => each.run);
  const first = state.runs.find((each) => !each.dense) ?? state.runs[0];
  parts.runs.value = names.includes(before) ? before : first.run;
  await open(parts.runs.value);
  if (before && !names.includes(before)) {
    parts.status.textContent = `The run ${runName(before)} is no longer there; this is ${runName(parts.runs.value)}.`;
  }
  lookAgain();
}

export async function render() {
  document.head.append(html('link', {rel: 'stylesheet', href: new URL('style.css', import.meta.url).href}));
  document.documentElement.lang = 'en';
  followTheme();
  document.body.replaceChildren(shell());
  await refresh();
  performance.mark('reducible-shown'); // benchmarks/tab.py reads it
}
