//! What every page of ours holds to for those who see little or nothing of it, as scripts that list what breaks it.

/// Texts whose colour has a contrast below 4.5 to what is behind them (WCAG 2, AA).
pub(crate) const FAINT_TEXT: &str = r"
const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
const luminance = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((it) => it / 255)
    .map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let it = element; it; it = it.parentElement) {
    const colour = channels(getComputedStyle(it).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const faint = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((it) => it.nodeType === Node.TEXT_NODE && it.textContent.trim());
  if (!own || element.closest('details:not([open])') || ['style', 'title', 'script'].includes(element.tagName.toLowerCase())) continue;
  const style = getComputedStyle(element), text = element.closest('svg') ? style.fill : style.color;
  const [light, dark] = [luminance(channels(text)), luminance(behind(element))].sort((a, b) => b - a);
  if ((light + 0.05) / (dark + 0.05) < 4.5) faint.push(`${element.tagName} ${element.textContent.slice(0, 40)} ${text}`);
}
return faint;";

/// What would lose somebody who does not see the page: headings that leave out a level, pictures without words, tables
/// without a name or with a heading that says nothing of what it heads, what is focused and has no name.
pub(crate) const DISORDER: &str = r"
const wrong = [];
let level = 0;
for (const heading of document.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
  const next = Number(heading.tagName[1]);
  if (next > level + 1) wrong.push(`${heading.tagName} after h${level}: ${heading.textContent}`);
  level = next;
}
if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
for (const landmark of ['header', 'main', 'footer']) {
  if (document.querySelectorAll(landmark).length !== 1) wrong.push(`not one ${landmark}`);
}
for (const svg of document.querySelectorAll('svg:not([aria-hidden])')) {
  if (svg.getAttribute('role') !== 'img' || !svg.getAttribute('aria-label')) wrong.push('a picture without words');
}
for (const table of document.querySelectorAll('table')) {
  if (!table.caption || !table.caption.textContent.trim()) wrong.push(`a table without a caption: ${table.textContent.slice(0, 40)}`);
  for (const cell of table.querySelectorAll('th')) {
    if (!cell.scope) wrong.push(`a heading without a scope: ${cell.textContent}`);
    if (!cell.textContent.trim()) wrong.push('an empty heading');
  }
}
for (const link of document.querySelectorAll('a[href^=\'#\']')) {
  if (!document.querySelector(link.getAttribute('href'))) wrong.push(`a link to nowhere: ${link.textContent}`);
}
for (const region of document.querySelectorAll('[tabindex=\'0\']')) {
  if (!region.getAttribute('aria-label') && !region.getAttribute('aria-labelledby')) wrong.push('a stop without a name');
}
return wrong;";
