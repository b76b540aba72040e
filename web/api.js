// What the server offers to the page: the shape of a job, and the requests about jobs. The session is a cookie.

/**
 * @typedef {'receiving' | 'queued' | 'converting' | 'retry_wait' | 'converted' | 'failed' | 'cancelled' | 'expired'} JobState
 *
 * @typedef {'cancel' | 'retry' | 'delete' | 'listen'} JobAction
 *
 * @typedef {object} Job
 * @property {string} id 24 hex digits.
 * @property {JobState} state
 * @property {number} progress Of the conversion, 0 to 1.
 * @property {string} file_name
 * @property {string} mp3_name
 * @property {number} size Of the video, in bytes.
 * @property {string} created RFC 3339.
 * @property {string} updated RFC 3339.
 * @property {string | null} expires When the present state ends by itself: the MP3 goes, the next attempt begins. RFC 3339.
 * @property {{ code: string, text: string } | null} error
 * @property {string | null} mp3_fid
 * @property {{ size: number, duration: number, peaks: boolean } | null} mp3 Bytes and seconds; whether there are peaks to be asked for.
 * @property {number} attempt The attempts begun so far.
 * @property {JobAction[]} actions What its owner may do now.
 */

/**
 * How low and how high the sound goes, as audiowaveform tells it.
 * @typedef {{ length: number, data: number[] }} Peaks Pairs of lowest and highest, -128 to 127.
 */

/** What went wrong, in a sentence for the person at the page. */
export class Problem extends Error {
  /**
   * @param {string} sentence
   * @param {number} status The HTTP status; 0 when there was no answer.
   */
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }

  get signedOut() {
    return this.status === 401;
  }
}

const SIGNED_OUT = 'You have been signed out. Sign in again in another tab, then try again here.';
const NO_ANSWER = 'The server cannot be reached. Check the connection and try again.';

/**
 * @param {number} status
 * @param {string} body
 * @returns {Problem}
 */
export function problemOf(status, body) {
  if (status === 401) return new Problem(SIGNED_OUT, status);
  if (status === 0) return new Problem(NO_ANSWER, status);
  try {
    const { detail, title } = JSON.parse(body);
    if (detail || title) return new Problem(String(detail || title), status);
  } catch {
    // A proxy on the way answers in its own words, which are not for the person at the page.
  }
  return new Problem(`The server answered with an error (${status}). Try again later.`, status);
}

/**
 * @param {string} path
 * @param {string} [method]
 * @returns {Promise<any>} The answer's JSON; null when it has none.
 */
async function ask(path, method = 'GET') {
  /** @type {Response} */
  let response;
  let body = '';
  try {
    response = await fetch(path, { method, headers: { Accept: 'application/json' }, cache: 'no-store' });
    body = await response.text();
  } catch {
    throw new Problem(NO_ANSWER, 0);
  }
  if (!response.ok) throw problemOf(response.status, body);
  try {
    return body ? JSON.parse(body) : null;
  } catch {
    throw problemOf(response.status, body);
  }
}

/** @param {string} id */
const jobPath = (id) => `/api/v1/jobs/${encodeURIComponent(id)}`;

/** Does the server answer? */
export const isThere = () => fetch('/livez', { cache: 'no-store' }).then((answer) => answer.ok, () => false);

/** @returns {Promise<Job[]>} As many as the server tells of by itself, newest first. */
export const listJobs = async () => (await ask('/api/v1/jobs')).jobs;

/** @param {string} before @param {number} limit @returns {Promise<Job[]>} Older than the one with this id, newest first. */
export const listOlderJobs = async (before, limit) => (await ask(`/api/v1/jobs?limit=${limit}&before=${encodeURIComponent(before)}`)).jobs;

/** @param {string} id @returns {Promise<Job>} */
export const getJob = (id) => ask(jobPath(id));

/** @param {string} id @returns {Promise<Job>} */
export const cancelJob = (id) => ask(`${jobPath(id)}/cancel`, 'POST');

/** @param {string} id @returns {Promise<Job>} */
export const retryJob = (id) => ask(`${jobPath(id)}/retry`, 'POST');

/** @param {string} id @returns {Promise<void>} */
export const deleteJob = (id) => ask(jobPath(id), 'DELETE');

/** @param {string} id @returns {Promise<Peaks>} Fails where the MP3 has none. */
export const getPeaks = (id) => ask(`${jobPath(id)}/peaks`);

/** @param {string} id */
export const mp3Path = (id) => `${jobPath(id)}/file`;
