// Keeps the page up to date: follows the server's events, and comes back by itself after the connection was lost.

import { listJobs, Problem } from './api.js';

/** @typedef {import('./api.js').Job} Job */

/**
 * @typedef {object} Listener
 * @property {(jobs: Job[]) => void} snapshot The newest jobs, newest first; all of them, unless there are too many for one list.
 * @property {(job: Job) => void} job A new or changed job.
 * @property {(id: string) => void} removed
 * @property {() => void} lost Nothing is heard for longer than a hiccup.
 * @property {() => void} found
 * @property {() => void} signedOut The session has ended. Asked again later: it may be renewed in another tab.
 */

/** A server that restarts is back before this, and nobody needs to know. */
const HICCUP = 4000;
const FIRST_DELAY = 1000;
const LAST_DELAY = 30000;
/** Who comes back to a tab that was hidden for longer (a phone that slept) gets a new connection at once. */
const STALE = 60000;

/** @param {Listener} listener */
export function follow(listener) {
  /** @type {EventSource | null} */
  let source = null;
  let delay = FIRST_DELAY;
  let hiccup = 0;
  let again = 0;
  let hiddenSince = 0;

  function open() {
    clearTimeout(again);
    source?.close();
    const opened = (source = new EventSource('/api/v1/events'));
    source.addEventListener('snapshot', (event) => {
      calm();
      delay = FIRST_DELAY;
      listener.snapshot(JSON.parse(event.data).jobs);
    });
    source.addEventListener('job', (event) => listener.job(JSON.parse(event.data)));
    source.addEventListener('removed', (event) => listener.removed(JSON.parse(event.data).id));
    source.addEventListener('error', () => {
      expectTrouble();
      // Still CONNECTING: the browser tries again by itself. CLOSED: the server refused; ask it why.
      if (opened === source && opened.readyState === EventSource.CLOSED) look();
    });
  }

  /** Asks the plain way: the answer tells what is wrong, and where a proxy eats events it is as good as one. */
  async function look() {
    try {
      listener.snapshot(await listJobs());
      calm();
    } catch (problem) {
      if (problem instanceof Problem && problem.signedOut) listener.signedOut();
    }
    clearTimeout(again);
    again = setTimeout(open, delay * (0.75 + Math.random() / 2));
    delay = Math.min(delay * 2, LAST_DELAY);
  }

  function expectTrouble() {
    hiccup ||= setTimeout(listener.lost, HICCUP);
  }

  function calm() {
    clearTimeout(hiccup);
    hiccup = 0;
    listener.found();
  }

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) hiddenSince = Date.now();
    else if (Date.now() - hiddenSince > STALE) open();
  });
  addEventListener('online', open);
  addEventListener('offline', listener.lost);
  // A page that the browser kept for "back" has lost its stream.
  addEventListener('pageshow', (event) => event.persisted && open());
  open();
}
