// The list: uploads of this page and jobs of the server in one order, no video shown twice.

import { cancelJob, deleteJob, Problem, retryJob } from './api.js';
import { confirmDeletion } from './confirm.js';
import { Row } from './row.js';
import { deleteQuestion, jobView, uploadView } from './views.js';

/** @typedef {import('./api.js').Job} Job */
/** @typedef {import('./uploads.js').Upload} Upload */
/** @typedef {import('./uploads.js').Uploads} Uploads */

const WORKING = new Set(['receiving', 'queued', 'converting', 'retry_wait']);

/**
 * @typedef {object} Surroundings
 * @property {HTMLElement} rows Where rows are put.
 * @property {() => HTMLElement} fallback What gets the focus when the last row has gone.
 * @property {string} mp3Kept How long MP3s are kept, in words.
 * @property {(sentence: string) => void} announce
 * @property {() => void} changed Told after every change.
 */

export class List {
  /** @param {Surroundings} surroundings */
  constructor(surroundings) {
    this.around = surroundings;
    /** @type {Uploads | null} Set once, by the page. */
    this.uploads = null;
    /** @type {Map<string, Upload>} */
    this.uploadsShown = new Map();
    /** @type {Map<string, Job>} All that the server told of, shown or not. */
    this.jobs = new Map();
    /** @type {Map<string, Row>} */
    this.rows = new Map();
    /** @type {Set<string>} Jobs deleted here; a late event does not bring one back. */
    this.deleted = new Set();
    /** @type {Set<string>} Jobs of uploads that did not come to an end: the upload's row has told it all. */
    this.orphans = new Set();
  }

  get size() {
    return this.rows.size;
  }

  /** How many videos are on their way. */
  get working() {
    const jobs = [...this.jobs.values()].filter((job) => this.rows.has(job.id) && WORKING.has(job.state));
    return jobs.length + (this.uploads?.active ?? 0);
  }

  /** The id of the oldest job. */
  get oldest() {
    return [...this.jobs.keys()].sort()[0] ?? '';
  }

  /** What is at work and older than the newest jobs, of which alone the server tells by itself. @param {number} newest How many these are. */
  unheard(newest) {
    const ids = [...this.jobs.keys()].sort().reverse().slice(newest);
    return ids.filter((id) => WORKING.has(this.jobs.get(id)?.state ?? ''));
  }

  // What the server says

  /**
   * @param {Job[]} jobs Newest first.
   * @param {boolean} full There may be older ones: those that are shown stay.
   * @returns {boolean} Is any shown that is older than all of these?
   */
  replaceAll(jobs, full) {
    const ids = new Set(jobs.map((job) => job.id));
    const end = full ? jobs[jobs.length - 1].id : '';
    const known = [...this.jobs.keys()];
    // Where the two do not meet, what lies between would be missing: then the list begins anew.
    const meets = known.some((id) => id >= end);
    for (const id of known) if (!ids.has(id) && (id >= end || !meets)) this.#drop(id);
    for (const job of jobs) this.#accept(job);
    this.around.changed();
    return meets && known.some((id) => id < end);
  }

  /** @param {Job[]} jobs Older than all before, newest first. @returns {Row[]} The rows they got. */
  append(jobs) {
    const added = jobs.filter((job) => !this.rows.has(job.id));
    // An upload of this page is never as old, whatever its name.
    for (const job of jobs) this.#accept(job, false);
    this.around.changed();
    return added.map((job) => this.rows.get(job.id)).filter((row) => row !== undefined);
  }

  /** @param {Job} job */
  update(job) {
    this.#accept(job);
    this.around.changed();
  }

  /** @param {string} id */
  remove(id) {
    this.#drop(id);
    this.around.changed();
  }

  // What the person's own uploads say

  /**
   * @param {Upload} upload
   * @param {Job | null} job
   */
  uploadChanged(upload, job) {
    const row = this.rows.get(upload.key) ?? this.#newRow(upload.key, Date.now(), true);
    const before = row.element.dataset.state;
    if (job) this.#adopt(upload, job, row);
    else {
      this.uploadsShown.set(upload.key, upload);
      row.show(uploadView(upload));
      if (before !== row.element.dataset.state) this.#announceUpload(upload);
      if (!upload.isActive) this.#orphan(upload);
    }
    this.around.changed();
  }

  /** The upload was answered: its row becomes the job's row, in place. @param {Upload} upload @param {Job} job @param {Row} row */
  #adopt(upload, job, row) {
    const other = [...this.uploadsShown.values()].find((one) => one !== upload && one.claimed === job.id);
    const mistaken = upload.claimed !== job.id ? upload.claimed : null;
    if (other) other.claimed = mistaken;
    this.rows.get(job.id)?.element.remove();
    this.rows.delete(upload.key);
    this.uploadsShown.delete(upload.key);
    this.orphans.delete(job.id);
    this.rows.set(job.id, row);
    row.key = job.id;
    row.since = Date.parse(job.created);
    this.around.announce(`${job.file_name} is uploaded.`);
    this.#accept(job);
    const left = !other && mistaken ? this.jobs.get(mistaken) : null;
    if (left) this.#accept(left);
  }

  /** @param {Upload} upload */
  #orphan(upload) {
    if (upload.claimed) this.orphans.add(upload.claimed);
    else upload.unheard = upload.began > 0 && upload.state !== 'refused';
    const job = upload.claimed ? this.jobs.get(upload.claimed) : null;
    upload.claimed = null;
    if (job) this.#accept(job);
  }

  // Jobs

  /** @param {Job} incoming @param {boolean} mayBeUploaded May it be what an upload of this page just sends? */
  #accept(incoming, mayBeUploaded = true) {
    if (this.deleted.has(incoming.id)) return;
    const known = this.jobs.get(incoming.id);
    const job = known ? laterOf(known, incoming) : incoming;
    this.jobs.set(job.id, job);
    if (!this.rows.has(job.id) && this.#belongsToAnUpload(job, mayBeUploaded && !known)) return;
    const row = this.rows.get(job.id) ?? this.#newRow(job.id, Date.parse(job.created), false);
    const before = row.element.dataset.state;
    row.show(jobView(job, this.around.mp3Kept));
    if (before && before !== job.state) this.#announceJob(job);
  }

  /**
   * An upload's row already shows this video. The answer that names the job comes last, so until then the
   * file's name is what the two have in common.
   * @param {Job} job
   * @param {boolean} isNew
   */
  #belongsToAnUpload(job, isNew) {
    const uploads = [...this.uploadsShown.values()];
    if (uploads.some((upload) => upload.claimed === job.id)) return true;
    if (this.orphans.has(job.id)) return job.state === 'receiving' || !job.actions.some((action) => action !== 'delete');
    const name = job.file_name.normalize();
    const namesakes = isNew ? uploads.filter((upload) => upload.file.name.normalize() === name) : [];
    const owner = namesakes.find((upload) => upload.state === 'sending' && !upload.claimed);
    if (owner) {
      owner.claimed = job.id;
      return true;
    }
    // The server tells of an upload that was cancelled here in the meantime.
    const late = job.state === 'receiving' && namesakes.find((upload) => upload.unheard);
    if (!late) return false;
    late.unheard = false;
    this.orphans.add(job.id);
    return true;
  }

  /** @param {string} id */
  #drop(id) {
    this.jobs.delete(id);
    this.orphans.delete(id);
    for (const upload of this.uploadsShown.values()) if (upload.claimed === id) upload.claimed = null;
    const row = this.rows.get(id);
    if (row) this.#removeRow(row);
  }

  // Rows

  /** @param {string} key @param {number} since @param {boolean} isUpload */
  #newRow(key, since, isUpload) {
    const row = new Row((pressed, offer) => this.#chosen(pressed, offer));
    row.key = key;
    row.since = since;
    this.rows.set(key, row);
    this.around.rows.insertBefore(row.element, isUpload ? this.#afterUploads() : this.#firstOlder(since));
    return row;
  }

  /** Uploads stand on top in the order in which they are sent. */
  #afterUploads() {
    const last = [...this.uploadsShown.keys()].map((key) => this.rows.get(key)?.element).filter((element) => element?.isConnected).pop();
    return last ? last.nextElementSibling : this.around.rows.firstElementChild;
  }

  /** Rows that are there never move: moving an element stops its sound. @param {number} since */
  #firstOlder(since) {
    const ages = new Map([...this.rows.values()].map((row) => [row.element, row.since]));
    const children = /** @type {HTMLElement[]} */ ([...this.around.rows.children]);
    return children.find((element) => (ages.get(element) ?? Infinity) < since) ?? null;
  }

  /** @param {Row} row */
  #removeRow(row) {
    const focused = row.hasFocus;
    const neighbour = row.element.nextElementSibling ?? row.element.previousElementSibling;
    row.element.remove();
    this.rows.delete(row.key);
    if (!focused) return;
    this.#focusAt(neighbour);
  }

  focusLast() {
    this.#focusAt(this.around.rows.lastElementChild);
  }

  /** @param {Element | null} element */
  #focusAt(element) {
    const row = [...this.rows.values()].find((one) => one.element === element);
    if (row) row.focus();
    else this.around.fallback().focus();
  }

  // What the person wants

  /** @param {Row} row @param {string} offer */
  #chosen(row, offer) {
    const upload = this.uploadsShown.get(row.key);
    if (upload) this.#chosenForUpload(row, upload, offer);
    else this.#chosenForJob(row, offer);
  }

  /** @param {Row} row @param {Upload} upload @param {string} offer */
  #chosenForUpload(row, upload, offer) {
    if (offer === 'cancel') this.uploads?.cancel(upload);
    else if (offer === 'retry') this.uploads?.retry(upload);
    else {
      this.uploads?.forget(upload);
      this.uploadsShown.delete(upload.key);
      this.#removeRow(row);
      this.around.changed();
    }
  }

  /** @param {Row} row @param {string} offer */
  async #chosenForJob(row, offer) {
    const job = this.jobs.get(row.key);
    if (!job) return;
    if (offer === 'delete' && !(await confirmDeletion(deleteQuestion(job)))) return;
    row.say('');
    row.setBusy(true);
    try {
      if (offer === 'cancel') this.update(await cancelJob(job.id));
      if (offer === 'retry') this.update(await retryJob(job.id));
      if (offer === 'delete') await this.#delete(job);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      row.say(problem.message);
      this.around.announce(problem.message);
    } finally {
      row.setBusy(false);
    }
  }

  /** @param {Job} job */
  async #delete(job) {
    await deleteJob(job.id);
    this.deleted.add(job.id);
    this.remove(job.id);
    this.around.announce(`${job.file_name} is deleted.`);
  }

  // What is said aloud

  /** @param {Upload} upload */
  #announceUpload({ state, file, sentence }) {
    if (state === 'sending') this.around.announce(`Uploading ${file.name}.`);
    if (state === 'cancelled') this.around.announce(`Upload of ${file.name} cancelled.`);
    if (state === 'failed' || state === 'refused') this.around.announce(`${file.name} was not uploaded: ${sentence}`);
  }

  /** @param {Job} job */
  #announceJob({ state, file_name, error }) {
    if (state === 'converted') this.around.announce(`${file_name} is ready to listen to.`);
    if (state === 'failed') this.around.announce(`${file_name} failed: ${error?.text ?? ''}`);
    if (state === 'cancelled') this.around.announce(`${file_name} is cancelled.`);
  }
}

/**
 * Answers and events overtake each other: what is older does not count, and within one attempt progress never goes back.
 * @param {Job} known
 * @param {Job} incoming
 * @returns {Job}
 */
function laterOf(known, incoming) {
  if (Date.parse(incoming.updated) < Date.parse(known.updated)) return known;
  const sameAttempt = incoming.state === known.state && incoming.attempt === known.attempt;
  return sameAttempt ? { ...incoming, progress: Math.max(incoming.progress, known.progress) } : incoming;
}
