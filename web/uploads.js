// Sends files to the server: two at a time, the rest wait in line. Knows nothing of the document.

import { isThere, problemOf } from './api.js';

/** @typedef {import('./api.js').Job} Job */
/** @typedef {'waiting' | 'sending' | 'failed' | 'cancelled' | 'refused' | 'done'} UploadState */

const AT_ONCE = 2;
/** Speed is the mean of this many milliseconds; it is told after WARM_UP, when it means something. */
const WINDOW = 5000;
const WARM_UP = 1500;
/** Text that changes more often than this cannot be read. */
const TELL_EVERY = 400;

/** What may pass is tried again after so many milliseconds; a lost connection so often for each file, which is sent from its start. */
const TRY_AGAIN_AFTER = 5000;
const MOST_LOSSES = 5;
const BY_ITSELF = 'It is sent again by itself.';

const EMPTY = 'the file is empty.';
const UNREADABLE = 'the file cannot be read. If it is a folder, add the videos inside it instead.';

let made = 0;

/** One file on its way. */
export class Upload {
  /** @param {File} file @param {string} preset What its MP3 is to be like. */
  constructor(file, preset) {
    made += 1;
    this.key = `upload-${made}`;
    this.file = file;
    this.preset = preset;
    /** @type {UploadState} */
    this.state = 'waiting';
    /** Why it failed or was refused. */
    this.sentence = '';
    /** Did it fail for something that may pass, and is sent again by itself? */
    this.again = false;
    /** So often the connection was lost. */
    this.losses = 0;
    /** The id of the job that the server shows as `receiving` for it, as far as one can tell. @type {string | null} */
    this.claimed = null;
    /** Did it end before the server told of it? */
    this.unheard = false;
    /** @type {XMLHttpRequest | null} */
    this.request = null;
    /** How much of it is sent, 0 to 1. */
    this.fraction = 0;
    this.allSent = false;
    /** Bytes per second; 0 while unknown. */
    this.pace = 0;
    /** @type {{ at: number, bytes: number }[]} */
    this.samples = [];
    this.began = 0;
    this.told = 0;
  }

  /** Back to the first byte. */
  rewind() {
    this.again = false;
    this.unheard = false;
    this.fraction = 0;
    this.allSent = false;
    this.pace = 0;
    this.samples = [];
    this.told = 0;
  }

  get isActive() {
    return this.state === 'waiting' || this.state === 'sending';
  }
}

/**
 * @typedef {object} Limits
 * @property {number} bytes The largest file.
 * @property {string} words The same in words.
 */

/** All uploads of this page. */
export class Uploads {
  /**
   * @param {Limits} limits
   * @param {(upload: Upload, job: Job | null) => void} changed Told of every change; the job comes with the answer.
   */
  constructor(limits, changed) {
    this.limits = limits;
    this.changed = changed;
    /** @type {Upload[]} */
    this.line = [];
    /** A timer; 0 while nothing is to be sent again. */
    this.waking = 0;
  }

  get active() {
    return this.line.filter((upload) => upload.isActive).length;
  }

  /** Would leaving the page lose a file that is to be sent, now or at another try? */
  get holdsFiles() {
    return this.line.some((upload) => upload.isActive || upload.state === 'failed');
  }

  /** @param {File} file @param {string} preset @returns {Upload} */
  add(file, preset) {
    const upload = new Upload(file, preset);
    this.line.push(upload);
    this.#enqueue(upload);
    return upload;
  }

  /** Once more, from the first byte. @param {Upload} upload */
  retry(upload) {
    if (upload.isActive) return;
    upload.rewind();
    this.line = this.line.filter((other) => other !== upload).concat(upload);
    this.#enqueue(upload);
  }

  /** @param {Upload} upload */
  cancel(upload) {
    if (!upload.isActive) return;
    const { request } = upload;
    this.#end(upload, 'cancelled');
    request?.abort();
  }

  /** @param {Upload} upload */
  forget(upload) {
    this.line = this.line.filter((other) => other !== upload);
  }

  /** @param {Upload} upload */
  #enqueue(upload) {
    const reason = this.#refusal(upload.file);
    if (reason) {
      this.#end(upload, 'refused', reason);
      return;
    }
    upload.state = 'waiting';
    this.changed(upload, null);
    this.#next();
  }

  /** @param {File} file */
  #refusal(file) {
    if (file.size === 0) return EMPTY;
    if (file.size > this.limits.bytes) return `the file is larger than ${this.limits.words}, which is the most that can be uploaded.`;
    return '';
  }

  #next() {
    const sending = this.line.filter((upload) => upload.state === 'sending').length;
    const next = this.line.find((upload) => upload.state === 'waiting');
    if (!next || sending >= AT_ONCE) return;
    this.#send(next);
    this.#next();
  }

  /** @param {Upload} upload */
  async #send(upload) {
    const request = new XMLHttpRequest();
    upload.state = 'sending';
    upload.began = performance.now();
    upload.request = request;
    this.changed(upload, null);
    // A folder, or a file that has gone since it was chosen, would only fail later and without a reason.
    const readable = await upload.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
    if (upload.request !== request) return;
    if (!readable) {
      this.#end(upload, 'refused', UNREADABLE);
      return;
    }
    request.upload.onprogress = (event) => this.#progressed(upload, request, event);
    request.onloadend = () => this.#answered(upload, request);
    request.open('POST', `/upload?preset=${encodeURIComponent(upload.preset)}`);
    request.setRequestHeader('Accept', 'application/json');
    const form = new FormData();
    form.append('file', upload.file);
    request.send(form);
  }

  /**
   * @param {Upload} upload
   * @param {XMLHttpRequest} request
   * @param {ProgressEvent} event
   */
  #progressed(upload, request, { loaded, total }) {
    if (upload.request !== request || !total) return;
    const now = performance.now();
    upload.fraction = Math.max(upload.fraction, loaded / total);
    upload.allSent = loaded >= total;
    upload.samples.push({ at: now, bytes: loaded });
    while (now - upload.samples[0].at > WINDOW) upload.samples.shift();
    if (now - upload.told < TELL_EVERY && !upload.allSent) return;
    const [first] = upload.samples;
    if (now - upload.began > WARM_UP && now > first.at) upload.pace = (loaded - first.bytes) / ((now - first.at) / 1000);
    upload.told = now;
    this.changed(upload, null);
  }

  /**
   * @param {Upload} upload
   * @param {XMLHttpRequest} request
   */
  #answered(upload, request) {
    if (upload.request !== request) return;
    const job = request.status === 200 ? jobIn(request.responseText) : null;
    if (job) {
      this.#end(upload, 'done', '', job);
      return;
    }
    const { message } = problemOf(request.status, request.responseText);
    if (request.status === 0) upload.losses += 1;
    // 429: there are enough of this person's videos for now.
    upload.again = request.status === 429 || (request.status === 0 && upload.losses <= MOST_LOSSES);
    this.#end(upload, 'failed', upload.again ? `${message} ${BY_ITSELF}` : message);
    if (upload.again) this.#wake();
  }

  /** Sends again what failed for something that may have passed, once the server is there. */
  #wake() {
    this.waking ||= setTimeout(async () => {
      const there = await isThere();
      this.waking = 0;
      const again = this.line.filter((upload) => upload.state === 'failed' && upload.again);
      if (there) again.forEach((upload) => this.retry(upload));
      else if (again.length) this.#wake();
    }, TRY_AGAIN_AFTER);
  }

  /**
   * @param {Upload} upload
   * @param {UploadState} state
   * @param {string} [sentence]
   * @param {Job | null} [job]
   */
  #end(upload, state, sentence = '', job = null) {
    upload.request = null;
    upload.state = state;
    upload.sentence = sentence;
    if (state === 'done') this.forget(upload);
    this.changed(upload, job);
    this.#next();
  }
}

/** @param {string} body @returns {Job | null} */
function jobIn(body) {
  try {
    const job = JSON.parse(body);
    return typeof job?.id === 'string' ? job : null;
  } catch {
    return null;
  }
}
