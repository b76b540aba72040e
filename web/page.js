// The page's entry: joins the list, the uploads, the server's events and what the person does.

import { announcer } from './announcer.js';
import { keepAwake } from './awake.js';
import { acceptDrops } from './drop.js';
import { follow } from './feed.js';
import { List } from './list.js';
import { Older } from './older.js';
import { presetChoice } from './preset.js';
import { onChange } from './session.js';
import { Uploads } from './uploads.js';

/** @param {string} id */
const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

const page = byId('page');
const banner = byId('banner');
const empty = byId('empty');
const chooser = /** @type {HTMLInputElement} */ (byId('files'));
/** The server's word is needed before the list may be called empty. */
let loaded = false;

const announce = announcer(byId('announcer'));
const list = new List({
  rows: byId('rows'),
  fallback: () => chooser,
  mp3Kept: page.dataset.mp3Kept ?? '',
  announce,
  changed: showTotals,
});

const limits = { bytes: Number(page.dataset.maxUploadBytes), words: page.dataset.maxUpload ?? '' };
const uploads = new Uploads(limits, (upload, job) => list.uploadChanged(upload, job));
list.uploads = uploads;
const preset = presetChoice(byId('presets'));
const older = new Older({ holder: byId('older'), list, size: Number(page.dataset.listSize), announce });

function showTotals() {
  const { working } = list;
  empty.hidden = !loaded || list.size > 0;
  document.title = working ? `(${working}) Tapedeck` : 'Tapedeck';
  document.body.toggleAttribute('data-working', working > 0);
  keepAwake(uploads.active > 0);
}

/** @param {Iterable<File>} files */
function addAll(files) {
  for (const file of files) uploads.add(file, preset());
}

/** @param {(string | Node)[]} content */
const tell = (...content) => banner.replaceChildren(...content);

function showSignedOut() {
  if (!uploads.holdsFiles) {
    location.assign('/');
    return;
  }
  // Leaving now would lose the files. The feed asks again, and finds the session renewed.
  const link = document.createElement('a');
  link.href = '/';
  link.target = '_blank';
  link.textContent = 'Sign in again';
  tell('You have been signed out. ', link, ' in another tab to go on here.');
}

chooser.addEventListener('change', () => {
  addAll([...(chooser.files ?? [])]);
  // The same file can be chosen again.
  chooser.value = '';
});
acceptDrops(addAll);
addEventListener('beforeunload', (event) => {
  if (uploads.active > 0) event.preventDefault();
});

// What this tab shows and sends is somebody else's from now on. Nobody's: whoever signs in again goes on with the files that wait here.
onChange((other) => {
  if (other || !uploads.holdsFiles) location.reload();
});

follow({
  snapshot(jobs) {
    loaded = true;
    older.heard(jobs);
  },
  job: (job) => list.update(job),
  removed: (id) => list.remove(id),
  lost: () => tell('Connection lost. Trying again…'),
  found: () => tell(),
  signedOut: showSignedOut,
});
