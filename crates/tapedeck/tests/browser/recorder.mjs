// Runs in the page: notes every state and every progress that a row shows, and whether a video is ever shown twice.

/** @typedef {{ name: string, state: string, text: string, progress: number }} Sight */

/** Starts recording into `globalThis.walk`. */
export function record() {
  /** @type {{ sights: Sight[], doubled: string[] }} */
  const walk = { sights: [], doubled: [] };
  Object.assign(globalThis, { walk });
  const rows = /** @type {Element} */ (document.querySelector('#rows'));
  /** @type {Map<Element, string>} */
  const last = new Map();

  const look = () => {
    /** @type {string[]} */
    const names = [];
    for (const row of rows.children) {
      const name = row.querySelector('.name')?.textContent ?? '';
      const sight = {
        name,
        state: row.getAttribute('data-state') ?? '',
        text: (row.querySelector('.status')?.textContent ?? '').replace(/\s+/g, ' '),
        progress: row.querySelector('progress')?.value ?? 0,
      };
      names.push(name);
      if (JSON.stringify(sight) === last.get(row)) continue;
      last.set(row, JSON.stringify(sight));
      walk.sights.push(sight);
    }
    walk.doubled.push(...names.filter((name, place) => names.indexOf(name) !== place));
  };
  new MutationObserver(look).observe(rows, { subtree: true, childList: true, characterData: true, attributes: true });
  look();
}

/** @param {Sight} sight */
const percentIn = ({ text }) => Number(/(\d+)\s?%/.exec(text)?.[1] ?? 0);

/**
 * The first sight at which progress fell within a phase, or reached the end too early.
 * @param {Sight[]} sights Of one video.
 */
export function firstStepBack(sights) {
  return sights.find((sight, place) => {
    const before = sights[place - 1];
    const within = before && before.state === sight.state;
    return percentIn(sight) >= 100 || (within && (sight.progress < before.progress || percentIn(sight) < percentIn(before)));
  });
}
