// Tells a screen reader what happened, a few words at a time and never over each other.

/** Sentences that come close together are read as one. */
const GATHER = 200;
/** What was said long ago is not found again by whoever walks through the page. */
const FORGET = 8000;

/**
 * @param {HTMLElement} region An aria-live region.
 * @returns {(sentence: string) => void}
 */
export function announcer(region) {
  /** @type {string[]} */
  let sentences = [];
  let forget = 0;

  const say = () => {
    region.textContent = sentences.join(' ');
    sentences = [];
    clearTimeout(forget);
    forget = setTimeout(() => (region.textContent = ''), FORGET);
  };

  return (sentence) => {
    if (sentences.length === 0) setTimeout(say, GATHER);
    sentences.push(sentence);
  };
}
