// Numbers, sizes and times as English writes them, which is the page's language, in the way of the browser's own English if it has one.

const locale = navigator.languages.find((language) => language.startsWith('en')) ?? 'en-GB';

const percents = new Intl.NumberFormat(locale, { style: 'percent', maximumFractionDigits: 0 });
const days = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'short', year: 'numeric' });
const clock = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit' });
const twoDigits = new Intl.NumberFormat(locale, { minimumIntegerDigits: 2 });

/** @param {string} unit @param {number} digits */
const unitFormat = (unit, digits) =>
  new Intl.NumberFormat(locale, { style: 'unit', unit, unitDisplay: 'short', maximumFractionDigits: digits });

const SIZES = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];

/** Whole per cent, and never 100 %: whoever is at 100 % says so in words. @param {number} fraction */
export const percent = (fraction) => percents.format(Math.floor(Math.min(Math.max(fraction, 0), 0.99) * 100) / 100);

/** @param {number} bytes @param {string} [per] Such as '-per-second'. */
export function size(bytes, per = '') {
  let step = 0;
  let amount = bytes;
  while (amount >= 999.5 && step < SIZES.length - 1) {
    amount /= 1000;
    step += 1;
  }
  return unitFormat(SIZES[step] + per, step > 1 && amount < 99.95 ? 1 : 0).format(amount);
}

/** @param {number} bytesPerSecond */
export const speed = (bytesPerSecond) => size(bytesPerSecond, '-per-second');

/** A rough time to come, coarser the longer it is. @param {number} seconds */
export function timeLeft(seconds) {
  if (seconds < 55) return unitFormat('second', 0).format(Math.max(1, seconds > 10 ? Math.ceil(seconds / 5) * 5 : Math.ceil(seconds)));
  if (seconds < 3570) return unitFormat('minute', 0).format(Math.ceil(seconds / 60));
  return unitFormat('hour', 1).format(seconds / 3600);
}

/** A length of sound: 4:12, 1:03:07. @param {number} seconds */
export function duration(seconds) {
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${twoDigits.format(minutes)}:${twoDigits.format(rest)}` : `${minutes}:${twoDigits.format(rest)}`;
}

/** @param {string} instant RFC 3339. */
export const day = (instant) => days.format(new Date(instant));

/** The time of day; with its day when that is not today. @param {string} instant RFC 3339. @param {Date} [now] */
export function time(instant, now = new Date()) {
  const then = new Date(instant);
  const today = then.toDateString() === now.toDateString();
  return today ? clock.format(then) : `${clock.format(then)}, ${days.format(then)}`;
}
