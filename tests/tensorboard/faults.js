// The body of a function that tells what not everybody can read: controls and pictures without a
// name, pictures without a table beside them, texts of too little contrast with what is behind them.

const named = (each) => each.ariaLabel
  || [...each.labels || []].map((label) => label.textContent).join('')
  || (/^(BUTTON|SUMMARY)$/.test(each.tagName) && each.textContent);

const channel = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const rgba = (color) => color.match(/[\d.]+/g).map(Number);
const luminance = (color) => {
  const [r, g, b] = rgba(color).map((v) => channel(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

const behind = (each) => {
  for (let at = each; at; at = at.parentElement) {
    const back = getComputedStyle(at).backgroundColor;
    if (rgba(back)[3] !== 0) return back;
  }
  return getComputedStyle(document.body).backgroundColor;
};

const contrast = (each) => {
  const style = getComputedStyle(each);
  const own = each.ownerSVGElement ? style.fill : style.color;
  const [less, more] = [own, behind(each)].map(luminance).sort((a, b) => a - b);
  return (more + 0.05) / (less + 0.05);
};

const says = (each) => !/^(title|option)$/i.test(each.tagName)
  && [...each.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());

const found = [];
const controls = 'button, select, input, summary, [role=button], svg[role]';
for (const each of document.querySelectorAll(controls)) {
  if (!named(each)) found.push(`no name: ${each.outerHTML.slice(0, 90)}`);
}
for (const each of document.querySelectorAll('#view svg[role]')) {
  if (!document.querySelector('#view table')) found.push(`no table: ${each.ariaLabel}`);
}
for (const each of [...document.querySelectorAll('main *')].filter(says)) {
  if (contrast(each) < 4.5) found.push(`contrast ${contrast(each).toFixed(2)}: ${each.textContent.slice(0, 60)}`);
}
return [...new Set(found)];
