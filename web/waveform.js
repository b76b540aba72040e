// The picture of a sound above its player: how loud it is where, how much was heard, and a press plays from there.

import { getPeaks, Problem } from './api.js';

/** @typedef {import('./api.js').Peaks} Peaks */

/** Few enough to be told apart on a phone. */
const BARS = 100;
const HEIGHT = 40;
/** What is quieter than this is drawn as quiet as it is; all else fills the picture. */
const LOUD = 16;
/** Below 1, quiet passages are drawn larger than their levels: more as they are heard, and one bang does not flatten all else. */
const CURVE = 0.6;
/** So far off the screen the peaks are asked for, in pixels. */
const AHEAD = '300px';

/** @type {WeakMap<Element, () => void>} */
const waiting = new WeakMap();
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      waiting.get(target)?.();
      waiting.delete(target);
    }
  },
  { rootMargin: AHEAD },
);

/**
 * A picture that comes when it is looked at, and goes where there are no peaks. For the mouse and the finger alone: the player below
 * it has all of this for the keyboard and the screen reader.
 * @param {HTMLAudioElement} audio
 * @param {string} id The job's.
 * @param {number} seconds How long it is; the player knows only once it has begun.
 * @returns {Element}
 */
export function waveformOf(audio, id, seconds) {
  const svg = svgElement('svg', { class: 'waveform', viewBox: `0 0 ${BARS} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' });
  waiting.set(svg, () => fill(svg, audio, id, seconds));
  watcher.observe(svg);
  return svg;
}

/** @param {Element} svg @param {HTMLAudioElement} audio @param {string} id @param {number} seconds */
async function fill(svg, audio, id, seconds) {
  /** @type {string[]} */
  let bars;
  try {
    bars = barsOf(await getPeaks(id));
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    // Without a picture it plays as well.
    svg.remove();
    return;
  }
  const [ahead, heard] = [svgElement('path', { class: 'ahead' }), svgElement('path', { class: 'heard' })];
  svg.append(ahead, heard);
  const show = () => {
    const count = Math.round((audio.currentTime / seconds) * bars.length);
    heard.setAttribute('d', bars.slice(0, count).join(''));
    ahead.setAttribute('d', bars.slice(count).join(''));
  };
  for (const event of ['timeupdate', 'seeked']) audio.addEventListener(event, show);
  svg.addEventListener('click', (event) => {
    const { left, width } = svg.getBoundingClientRect();
    audio.currentTime = Math.max(0, (/** @type {MouseEvent} */ (event).clientX - left) / width) * seconds;
    // That it cannot be played, the player shows.
    audio.play().catch(() => {});
    show();
  });
  show();
}

/**
 * A line for each bar, as an SVG path.
 * @param {Peaks} peaks
 * @returns {string[]}
 */
export function barsOf({ data, length }) {
  const count = Math.min(BARS, length);
  const levels = Array.from({ length: count }, (_, bar) => {
    const pairs = data.slice(Math.floor((bar * length) / count) * 2, Math.floor(((bar + 1) * length) / count) * 2);
    return Math.max(...pairs.map(Math.abs));
  });
  const full = Math.max(LOUD, ...levels);
  return levels.map((level, bar) => {
    const x = ((bar + 0.5) * BARS) / count;
    const half = (level / full) ** CURVE * (HEIGHT / 2 - 2);
    return `M${x.toFixed(2)} ${(HEIGHT / 2 - half).toFixed(1)}V${(HEIGHT / 2 + half).toFixed(1)}`;
  });
}

/** @param {string} name @param {Record<string, string>} attributes */
function svgElement(name, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  return element;
}
