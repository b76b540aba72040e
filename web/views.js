// What a row says and offers, made from a job or from an upload. Pure: no document, no clock, no network.

import { mp3Path } from './api.js';
import { day, duration, percent, size, speed, time, timeLeft } from './words.js';

/** @typedef {import('./api.js').Job} Job */
/** @typedef {import('./uploads.js').Upload} Upload */

/**
 * A button, or a link where it has an `href`.
 * @typedef {{ name: string, label: string, glyph: string, look: 'soft' | 'quiet', href?: string, download?: string }} Offer
 *
 * @typedef {{ id: string, path: string, seconds: number, peaks: boolean }} Sound
 *
 * @typedef {object} View
 * @property {string} name The file's name.
 * @property {string} state For style and tests.
 * @property {'plain' | 'upload' | 'work' | 'wait' | 'good' | 'bad' | 'quiet'} tone
 * @property {string} glyph
 * @property {string} text The sentence under the name.
 * @property {'none' | 'idle' | 'moving'} bar Idle is empty and keeps the place.
 * @property {number} progress 0 to 1.
 * @property {string} barLabel
 * @property {Offer[]} offers
 * @property {Sound | null} sound The MP3, where it can be heard.
 */

/** @type {Record<string, Offer>} */
const OFFERS = {
  cancel: { name: 'cancel', label: 'Cancel', glyph: 'cancel', look: 'quiet' },
  retry: { name: 'retry', label: 'Try again', glyph: 'retry', look: 'soft' },
  delete: { name: 'delete', label: 'Delete', glyph: 'delete', look: 'quiet' },
  remove: { name: 'remove', label: 'Dismiss', glyph: 'cancel', look: 'quiet' },
};

const STILL = { bar: /** @type {const} */ ('none'), progress: 0, barLabel: '' };

/** A fact up to this length fits into a line of the narrowest phone. */
const SHORT = 24;

/** Facts side by side; a line breaks between two of them rather than within one. @param {string[]} facts */
const sideBySide = (...facts) => facts.map((fact) => (fact.length > SHORT ? fact : fact.replaceAll(' ', '\u00a0'))).join(' · ');

/**
 * @param {Job} job
 * @param {string} mp3Kept How long MP3s are kept, in words.
 * @returns {View}
 */
export function jobView(job, mp3Kept) {
  const listen = job.actions.includes('listen');
  return {
    name: job.file_name,
    state: job.state,
    sound: listen ? { id: job.id, path: mp3Path(job.id), seconds: job.mp3?.duration ?? 0, peaks: job.mp3?.peaks ?? false } : null,
    offers: offersOf(job, listen),
    ...STILL,
    ...standing(job, mp3Kept),
  };
}

/** @param {Job} job @param {boolean} listen @returns {Offer[]} */
function offersOf(job, listen) {
  /** @type {Offer[]} */
  const offers = [];
  if (listen) {
    const href = `${mp3Path(job.id)}?download=1`;
    offers.push({ name: 'download', label: 'Download', glyph: 'download', look: 'soft', href, download: job.mp3_name });
  }
  for (const action of /** @type {const} */ (['retry', 'cancel', 'delete'])) {
    if (job.actions.includes(action)) offers.push(OFFERS[action]);
  }
  return offers;
}

/**
 * @param {Job} job
 * @param {string} mp3Kept
 * @returns {Pick<View, 'tone' | 'glyph' | 'text'> & Partial<View>}
 */
function standing(job, mp3Kept) {
  switch (job.state) {
    case 'receiving':
      return { tone: 'upload', glyph: 'upload', text: 'Being uploaded from elsewhere' };
    case 'queued':
      return { tone: 'plain', glyph: 'clock', text: 'Uploaded. Waiting for its turn', bar: 'idle' };
    case 'converting':
      return {
        tone: 'work',
        glyph: 'reel',
        text: `Converting ${percent(job.progress)}`,
        bar: 'moving',
        progress: job.progress,
        barLabel: 'Conversion',
      };
    case 'retry_wait': {
      const when = job.expires ? `at ${time(job.expires)}` : 'soon';
      return { tone: 'wait', glyph: 'clock', text: `Will try again ${when} (attempt ${job.attempt + 1})`, bar: 'idle' };
    }
    case 'converted':
      return { tone: 'good', glyph: 'note', text: readyText(job) };
    case 'failed':
      return { tone: 'bad', glyph: 'problem', text: `Failed: ${job.error?.text ?? 'the reason was not recorded.'}` };
    case 'cancelled':
      return { tone: 'quiet', glyph: 'stop', text: cancelledText(job) };
    case 'expired':
      return { tone: 'quiet', glyph: 'clock', text: `Expired: the MP3 was deleted after ${mp3Kept}` };
    default:
      // A state of a newer server than this page, until the next reload.
      return { tone: 'quiet', glyph: 'clock', text: String(job.state) };
  }
}

/** @param {Job} job */
function readyText(job) {
  const parts = ['Ready'];
  if (job.mp3) parts.push(duration(job.mp3.duration), size(job.mp3.size));
  if (job.expires) parts.push(`kept until ${day(job.expires)}`);
  return sideBySide(...parts);
}

/** @param {Job} job */
function cancelledText(job) {
  const retry = job.expires && job.actions.includes('retry');
  return retry ? sideBySide('Cancelled', `video kept until ${day(/** @type {string} */ (job.expires))}`) : 'Cancelled';
}

/**
 * @param {Upload} upload
 * @returns {View}
 */
export function uploadView(upload) {
  /** @param {Partial<View> & Pick<View, 'tone' | 'glyph' | 'text' | 'offers'>} rest @returns {View} */
  const view = (rest) => ({ name: upload.file.name, state: `upload-${upload.state}`, sound: null, ...STILL, ...rest });
  const { cancel, retry, remove } = OFFERS;
  switch (upload.state) {
    case 'waiting':
      return view({ tone: 'plain', glyph: 'clock', text: sideBySide('Waiting in line to upload', size(upload.file.size)), bar: 'idle', offers: [cancel] });
    case 'sending':
      return view({ tone: 'upload', glyph: 'upload', text: sendingText(upload), bar: 'moving', progress: upload.fraction, barLabel: 'Upload', offers: [cancel] });
    case 'refused':
      return view({ tone: 'bad', glyph: 'problem', text: `Not uploaded: ${upload.sentence}`, offers: [remove] });
    case 'cancelled':
      return view({ tone: 'quiet', glyph: 'stop', text: 'Upload cancelled', offers: [{ ...retry, label: 'Upload again' }, remove] });
    default:
      return view({ tone: 'bad', glyph: 'problem', text: `Not uploaded: ${upload.sentence}`, offers: [retry, remove] });
  }
}

/** @param {Upload} upload */
function sendingText(upload) {
  const parts = [`Uploading ${percent(upload.fraction)}`];
  if (upload.allSent) parts.push('finishing');
  else if (upload.pace) parts.push(speed(upload.pace), `${timeLeft((upload.file.size * (1 - upload.fraction)) / upload.pace)} left`);
  return sideBySide(...parts);
}

/**
 * What is asked before a job is deleted.
 * @param {Job} job
 */
export function deleteQuestion(job) {
  const losses = {
    converted: 'The MP3 will be gone for good. The video was deleted after the conversion.',
    expired: 'The MP3 is gone already; this removes the entry.',
  };
  const text = losses[/** @type {keyof typeof losses} */ (job.state)];
  return { title: `Delete “${job.file_name}”?`, text: text ?? 'The uploaded video will be gone for good.' };
}
