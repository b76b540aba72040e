// The button below the list: asks for the videos that are older than those of which the server tells by itself.

import { getJob, listOlderJobs, Problem } from './api.js';

/** @typedef {import('./api.js').Job} Job */
/** @typedef {import('./list.js').List} List */

/** How often older ones that are at work are asked after, in milliseconds. */
const ASK_EVERY = 4000;

/**
 * @typedef {object} Surroundings
 * @property {HTMLElement} holder Holds the button and the note under it.
 * @property {List} list
 * @property {number} size Of how many jobs the server tells by itself; as many are asked for at a time.
 * @property {(sentence: string) => void} announce
 */

export class Older {
  /** @param {Surroundings} surroundings */
  constructor({ holder, list, size, announce }) {
    this.holder = holder;
    this.list = list;
    this.size = size;
    this.announce = announce;
    this.button = /** @type {HTMLButtonElement} */ (holder.querySelector('button'));
    this.note = /** @type {HTMLElement} */ (holder.querySelector('.note'));
    this.busy = false;
    this.button.addEventListener('click', () => this.busy || this.#show());
    this.#askAfter();
  }

  /** What the server told by itself. @param {Job[]} jobs */
  heard(jobs) {
    const full = jobs.length >= this.size;
    const kept = this.list.replaceAll(jobs, full);
    if (!kept) this.#offer(full);
  }

  async #show() {
    const { oldest } = this.list;
    this.#say('');
    this.#setBusy(true);
    try {
      const jobs = await listOlderJobs(oldest, this.size);
      const added = this.list.append(jobs);
      // Whoever went on to something else meanwhile stays there. Safari does not focus a button that is clicked.
      if ([this.button, document.body].some((one) => one === document.activeElement)) added[0]?.focus();
      this.#offer(jobs.length >= this.size);
      this.announce(sentenceFor(added.length));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.#say(problem.message);
      this.announce(problem.message);
    } finally {
      this.#setBusy(false);
    }
  }

  /** @param {boolean} more */
  #offer(more) {
    const focused = this.button === document.activeElement;
    this.holder.hidden = !more;
    if (!more && focused) this.list.focusLast();
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    this.busy = busy;
    this.button.setAttribute('aria-disabled', String(busy));
  }

  /** @param {string} sentence */
  #say(sentence) {
    this.note.hidden = !sentence;
    this.note.textContent = sentence;
  }

  /** An older one that is tried again changes, and no event tells of it. */
  async #askAfter() {
    for (const id of this.list.unheard(this.size)) {
      try {
        this.list.update(await getJob(id));
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        if (problem.status === 404) this.list.remove(id);
      }
    }
    setTimeout(() => this.#askAfter(), ASK_EVERY);
  }
}

/** @param {number} added */
function sentenceFor(added) {
  if (added === 0) return 'There are no older videos.';
  return added === 1 ? '1 older video added.' : `${added} older videos added.`;
}
