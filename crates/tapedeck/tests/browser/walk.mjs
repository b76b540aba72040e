// Walks through the page in a real browser as its users do; the first thing that is not as promised ends it with a message.
//
// Run as `node walk.mjs` against a Tapedeck without jobs, with these environment variables:
//   BASE_URL, EMAIL, PASSWORD   the server, and the account to sign in with
//   MEDIA                       folder with bbb_480p_30s.mp4, mp4__sample.mp4, mp3__bear-id3.mp3 and vp9__bear-vp9.webm (which has no sound)
//   LONG                        folder with lecture-1.wav, lecture-2.wav and lecture-3.wav, half an hour each; two convert at once
//   SCREENSHOTS                 folder for a picture of each state at each size, light and dark
//   CHROMIUM                    path of the browser

import fs from 'node:fs';
import path from 'node:path';
import { firstStepBack, record } from './recorder.mjs';
import { check, openWatched } from './watched.mjs';

/** @param {string} name @returns {string} */
function env(name) {
  const value = process.env[name];
  if (!value) throw new Error(`The environment variable ${name} is missing.`);
  return value;
}

const base = new URL(env('BASE_URL'));
const media = env('MEDIA');
const screenshots = env('SCREENSHOTS');
const PATIENCE = 60_000;
/** Bytes per second at which an upload lasts long enough to be looked at, and to be cancelled. */
const SLOW = 400_000;
const CRAWL = 100_000;
const TALK = 'bbb_480p_30s.mp4';
const CLIP = 'mp4__sample.mp4';
const SONG = 'mp3__bear-id3.mp3';
const SILENT = 'vp9__bear-vp9.webm';
/** Long enough to be looked at while they convert; more than convert at once. */
const LONG = ['lecture-1.wav', 'lecture-2.wav', 'lecture-3.wav'];
const long = env('LONG');

const watched = await openWatched({ origin: base.origin, executablePath: env('CHROMIUM'), screenshots });
const { page } = watched;
page.setDefaultTimeout(PATIENCE);

let passed = 0;
/** Bytes of the talk's MP3, made as the page makes them without a choice. */
let usual = 0;

/**
 * @param {string} fact What holds when the step has passed.
 * @param {() => Promise<string | void>} walk May answer with a remark.
 */
async function step(fact, walk) {
  try {
    const remark = await walk();
    watched.assertClean();
    passed += 1;
    console.log(`ok ${passed} - ${fact}${remark ? ` (${remark})` : ''}`);
  } catch (error) {
    console.log(`not ok ${passed + 1} - ${fact}`);
    await page.screenshot({ path: path.join(screenshots, 'not-ok.png'), fullPage: true }).catch(() => {});
    await watched.browser.close();
    console.error(`FAILED at "${fact}": ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
}

// The page, in the words of its user

/** @param {string} name */
const row = (name) => page.locator('.row', { has: page.locator('.name', { hasText: new RegExp(`^${name.replace(/[.()]/g, '\\$&')}$`) }) });

/** @param {string} name @param {string} offer */
const button = (name, offer) => row(name).locator(`[data-offer="${offer}"]`);

/** @param {string} name @param {string[]} state Any of these. */
const inState = (name, ...state) =>
  row(name).and(page.locator(state.map((one) => `[data-state="${one}"]`).join(','))).waitFor({ timeout: PATIENCE });

/** @param {string} name */
const status = async (name) => (await row(name).locator('.status').innerText()).replace(/\s+/g, ' ');

/** @param {import('playwright-core').Locator} target */
async function pressByKeyboard(target) {
  await target.focus();
  await page.keyboard.press('Enter');
}

/** @returns {Promise<import('./recorder.mjs').Sight[]>} */
const sights = () => page.evaluate(() => /** @type {any} */ (globalThis).walk.sights);

/** @param {string} name */
const sightsOf = async (name) => (await sights()).filter((sight) => sight.name === name);

const focusedName = () => page.evaluate(() => document.activeElement?.className || document.activeElement?.id || document.activeElement?.tagName);

/** @returns {Promise<any[]>} */
async function jobs() {
  const answer = await page.request.get(new URL('/api/v1/jobs', base).href);
  check(answer.ok(), `GET /api/v1/jobs answered ${answer.status()}`);
  return (await answer.json()).jobs;
}

/** @param {string} name */
const fileOf = (name) => fs.readFileSync(path.join(media, name));

/** One file under several names. @param {string} file @param {string[]} names */
const copies = (file, ...names) => names.map((name) => ({ name, mimeType: 'video/mp4', buffer: fileOf(file) }));

/** @param {string} file @param {string} name */
async function drag(file, name) {
  const transfer = await page.evaluateHandle(
    ({ base64, name }) => {
      const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name, { type: 'video/mp4' }));
      return transfer;
    },
    { base64: fileOf(file).toString('base64'), name },
  );
  /** @param {'dragenter' | 'dragover' | 'drop'} type */
  return (type) =>
    page.evaluate(
      ({ transfer, type }) => {
        const event = new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true });
        document.querySelector('h2')?.dispatchEvent(event);
        if (!event.defaultPrevented) throw new Error(`${type} was not taken: the browser would open the file instead`);
      },
      { transfer, type },
    );
}

/** A busy browser now and then opens no chooser at the first press; a page that opens none at three is broken. */
async function chooserByKeyboard(presses = 3) {
  await page.locator('#files').focus();
  try {
    const [chooser] = await Promise.all([page.waitForEvent('filechooser', { timeout: 8000 }), page.keyboard.press('Space')]);
    return chooser;
  } catch (error) {
    if (presses === 1) throw error;
    return chooserByKeyboard(presses - 1);
  }
}

// The walk

await step('who is not signed in is asked to', async () => {
  await page.goto(base.href);
  check(await page.getByLabel('E-mail').isVisible(), 'there is no field for the e-mail');
  await watched.inspect('sign-in');
});

await step('a wrong password is told in a sentence', async () => {
  watched.provoke(/40[01]/);
  await page.getByLabel('E-mail').fill(env('EMAIL'));
  await page.getByLabel('Password', { exact: true }).fill('not the password');
  await page.getByRole('button', { name: 'Sign in' }).click();
  const sentence = await page.getByRole('alert').innerText();
  check(/\w+ \w+.*\.$/s.test(sentence.trim()), `this is no sentence: ${sentence}`);
  check((await page.getByLabel('E-mail').inputValue()) === env('EMAIL'), 'the e-mail has to be typed again');
  await watched.inspect('sign-in-wrong');
  return sentence.trim();
});

await step('the password can be shown, and signs in by keyboard alone', async () => {
  const password = page.getByLabel('Password', { exact: true });
  await password.focus();
  await page.keyboard.type(env('PASSWORD'));
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  check((await password.getAttribute('type')) === 'text', 'the password stays hidden');
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Enter');
  await page.locator('#empty').waitFor();
  watched.provoke();
  await page.evaluate(record);
  await watched.inspect('empty');
});

await step('a video is dropped anywhere on the page, another chosen by keyboard', async () => {
  await watched.limitUploads(SLOW);
  const dispatch = await drag(TALK, TALK);
  await dispatch('dragenter');
  await dispatch('dragover');
  check(await page.locator('body[data-dropping]').count(), 'the page does not show that it takes the drop');
  await page.screenshot({ path: path.join(screenshots, 'dropping-1280-light.png') });
  await dispatch('drop');
  check(!(await page.locator('body[data-dropping]').count()), 'the page still waits for the drop');
  const chooser = await chooserByKeyboard();
  await chooser.setFiles(path.join(media, CLIP));
  await row(CLIP).waitFor();
});

await step('an upload tells how far it is, how fast, and how long it takes', async () => {
  await row(TALK).locator('.status', { hasText: /^Uploading\s\d+% · .+\/s · .+\sleft$/ }).waitFor();
  const said = await status(TALK);
  await watched.inspect('uploading');
  await watched.limitUploads(0);
  return said;
});

await step('it is converted, and no progress goes back or shows the end too early', async () => {
  await inState(TALK, 'converted');
  const seen = await sightsOf(TALK);
  const states = [...new Set(seen.map((sight) => sight.state))];
  check(states[0].startsWith('upload-') && states.includes('upload-sending'), `no upload was shown, only ${states}`);
  check(states.includes('queued') || states.includes('converting'), `nothing was shown between upload and MP3: ${states}`);
  check(new Set(seen.filter((sight) => sight.state === 'upload-sending').map((sight) => sight.progress)).size > 3, 'the upload showed no progress');
  const back = firstStepBack(seen);
  check(!back, `progress went back, or showed the end too early: ${JSON.stringify(back)}`);
  await inState(CLIP, 'converted');
  return states.join(', ');
});

await step('a ready MP3 says how long it is, how large, and how long it is kept', async () => {
  const said = await status(TALK);
  check(/^Ready · 0:30 · [\d.]+ [kM]?B · kept until \w+ \d+, \d{4}$/.test(said), `it says: ${said}`);
  await watched.inspect('ready');
  return said;
});

await step('it plays and seeks, by keyboard, and plays on while the list changes', async () => {
  const audio = row(TALK).locator('audio');
  await row(TALK).locator('.name').focus();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  await page.waitForFunction((one) => one instanceof HTMLAudioElement && one.currentTime > 0.5, await audio.elementHandle());
  const duration = await audio.evaluate((/** @type {HTMLAudioElement} */ one) => one.duration);
  check(Math.abs(duration - 30) <= 0.1, `it lasts ${duration} s, not 30 s`);
  await audio.evaluate((/** @type {HTMLAudioElement} */ one) => (one.currentTime = 20));
  await page.waitForFunction((one) => one instanceof HTMLAudioElement && !one.seeking && one.currentTime > 20.5, await audio.elementHandle());
  const focused = await page.evaluateHandle(() => document.activeElement);
  await page.locator('#files').setInputFiles(copies(CLIP, 'meanwhile.mp4'));
  await inState('meanwhile.mp4', 'converted');
  // A new connection brings a new snapshot, which tells of every row again.
  await Promise.all([page.waitForResponse(/\/events$/), page.evaluate(() => dispatchEvent(new Event('online')))]);
  await page.waitForTimeout(500);
  check(await audio.evaluate((/** @type {HTMLAudioElement} */ one) => !one.paused && one.currentTime > 20.5), 'the sound stopped when the list changed');
  check(await focused.evaluate((one) => one === document.activeElement), 'the focus moved when the list changed');
  await audio.evaluate((/** @type {HTMLAudioElement} */ one) => one.pause());
  return `${duration.toFixed(3)} s`;
});

await step('a picture shows its sound, and a press on it plays from there', async () => {
  const picture = row(TALK).locator('.waveform');
  await picture.locator('.ahead').waitFor({ state: 'attached' });
  const audio = row(TALK).locator('audio');
  const box = await picture.boundingBox();
  check(box && box.height > 20, 'there is no picture');
  const lines = (/** @type {string} */ part) => picture.locator(part).evaluate((one) => (one.getAttribute('d') ?? '').split('M').length - 1);
  await picture.click({ position: { x: box.width / 4, y: box.height / 2 } });
  await page.waitForFunction((one) => one instanceof HTMLAudioElement && !one.paused && one.currentTime > 7.6, await audio.elementHandle());
  const at = await audio.evaluate((/** @type {HTMLAudioElement} */ one) => (one.pause(), one.currentTime));
  check(at < 15, `it plays at ${at} s`);
  await page.waitForTimeout(400);
  const [heard, ahead] = [await lines('.heard'), await lines('.ahead')];
  check(heard + ahead === 100 && heard > 23 && heard < 51, `${heard} bars of ${heard + ahead} are heard`);
  await watched.inspect('waveform');
  return `${heard} of ${heard + ahead} bars heard`;
});

await step('a sound that was copied as it came plays without a picture', async () => {
  await page.locator('#files').setInputFiles(path.join(media, SONG));
  await inState(SONG, 'converted');
  await row(SONG).scrollIntoViewIfNeeded();
  // What it would ask for without need would be missed, and told on the console.
  await page.waitForTimeout(500);
  check((await row(SONG).locator('audio').count()) === 1 && (await row(SONG).locator('.waveform').count()) === 0, 'it has a picture, or no player');
  check((await row(TALK).locator('.waveform').count()) === 1, 'the other one has lost its picture');
});

await step('it is downloaded as an MP3 under its own name', async () => {
  const [download] = await Promise.all([page.waitForEvent('download'), pressByKeyboard(button(TALK, 'download'))]);
  const saved = fs.readFileSync(await download.path());
  check(download.suggestedFilename() === TALK.replace('.mp4', '.mp3'), `it is called ${download.suggestedFilename()}`);
  check(saved.subarray(0, 3).toString() === 'ID3' || (saved[0] === 0xff && (saved[1] & 0xe0) === 0xe0), 'the saved file is no MP3');
  const job = (await jobs()).find((one) => one.file_name === TALK);
  const answer = await page.request.get(new URL(`/api/v1/jobs/${job.id}/file`, base).href);
  check(saved.equals(await answer.body()), 'the saved file is not what the API gives');
  usual = saved.length;
  check(saved.length === job.mp3.size, `it has ${saved.length} bytes, not ${job.mp3.size} as the job says`);
  return `${saved.length} bytes`;
});

await step('a video without sound fails with a sentence', async () => {
  await page.locator('#files').setInputFiles(path.join(media, SILENT));
  await inState(SILENT, 'failed');
  const said = await status(SILENT);
  check(/^Failed: \S+ \S+ .*\.$/.test(said), `it says: ${said}`);
  await watched.inspect('failed');
  return said;
});

await step('a failed one is tried again when that is offered, and tells the end again', async () => {
  if (!(await button(SILENT, 'retry').count())) return 'not offered';
  const before = (await sightsOf(SILENT)).length;
  await pressByKeyboard(button(SILENT, 'retry'));
  await page.waitForFunction(
    ({ name, before }) => {
      const later = /** @type {any} */ (globalThis).walk.sights.filter((/** @type {any} */ sight) => sight.name === name).slice(before);
      const again = later.findIndex((/** @type {any} */ sight) => sight.state !== 'failed');
      return again >= 0 && later.slice(again).some((/** @type {any} */ sight) => sight.state === 'failed');
    },
    { name: SILENT, before },
  );
});

await step('files that cannot become an MP3 are refused before they are sent', async () => {
  await page.locator('#files').setInputFiles([{ name: 'nothing.mp4', mimeType: 'video/mp4', buffer: Buffer.alloc(0) }]);
  await inState('nothing.mp4', 'upload-refused');
  await pressByKeyboard(button('nothing.mp4', 'remove'));
  await row('nothing.mp4').waitFor({ state: 'detached' });
  check((await focusedName()) !== 'BODY', 'the focus is lost');
});

await step('an upload is cancelled by keyboard, and leaves nothing behind', async () => {
  await watched.limitUploads(CRAWL);
  await page.locator('#files').setInputFiles(copies(TALK, 'not-this-one.mp4', 'in-line-1.mp4', 'in-line-2.mp4'));
  await row('not-this-one.mp4').locator('.status', { hasText: 'Uploading' }).waitFor();
  check(/^Waiting in line/.test(await status('in-line-2.mp4')), 'the third upload does not wait for the first two');
  for (const name of ['in-line-2.mp4', 'in-line-1.mp4', 'not-this-one.mp4']) {
    await pressByKeyboard(button(name, 'cancel'));
    await inState(name, 'upload-cancelled');
    check((await focusedName()) === 'name', 'the focus is not on the name of the video');
  }
  await watched.inspect('upload-cancelled');
  await watched.limitUploads(0);
  for (const name of ['in-line-1.mp4', 'in-line-2.mp4', 'not-this-one.mp4']) await pressByKeyboard(button(name, 'remove'));
  const until = Date.now() + PATIENCE;
  while ((await jobs()).some((job) => job.state === 'receiving')) {
    check(Date.now() < until, 'the server still waits for the cancelled upload');
    await page.waitForTimeout(200);
  }
});

await step('long ones are watched while they wait and convert, cancelled, and tried again', async () => {
  await page.locator('#files').setInputFiles(LONG.map((name) => path.join(long, name)));
  for (const name of LONG) await inState(name, 'queued', 'converting', 'converted');
  const waiting = page.locator('.row[data-state="queued"] .status', { hasText: 'Waiting for its turn' });
  const converting = page.locator('.row[data-state="converting"] .status', { hasText: /^Converting\s[1-9]\d?\s?%/ });
  await waiting.first().waitFor();
  await converting.first().waitFor();
  await watched.inspect('converting');
  for (const name of LONG) {
    await pressByKeyboard(button(name, 'cancel'));
    await inState(name, 'cancelled');
    check(/^Cancelled/.test(await status(name)), `it says: ${await status(name)}`);
  }
  await watched.inspect('cancelled');
  await pressByKeyboard(button(LONG[0], 'retry'));
  await inState(LONG[0], 'converting');
  await pressByKeyboard(button(LONG[0], 'cancel'));
  await inState(LONG[0], 'cancelled');
  check(!firstStepBack(await sightsOf(LONG[1])), 'progress went back');
});

await step('an MP3 is deleted by keyboard, after a question whose first answer is the harmless one', async () => {
  const id = (await jobs()).find((job) => job.file_name === TALK).id;
  await pressByKeyboard(button(TALK, 'delete'));
  const dialog = page.getByRole('dialog');
  await dialog.waitFor();
  check((await page.evaluate(() => document.activeElement?.textContent)) === 'Keep it', 'the first answer is not the harmless one');
  await watched.inspect('confirm');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  check(await button(TALK, 'delete').evaluate((one) => one === document.activeElement), 'the focus is not back at Delete');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await row(TALK).waitFor({ state: 'detached' });
  check((await focusedName()) === 'name', 'the focus is not on the neighbour');
  const answer = await page.request.get(new URL(`/api/v1/jobs/${id}/file`, base).href);
  check(answer.status() === 404, `its file answers ${answer.status()}`);
});

await step('no video was ever shown twice', async () => {
  const doubled = await page.evaluate(() => /** @type {any} */ (globalThis).walk.doubled);
  check(doubled.length === 0, `shown twice: ${doubled}`);
  for (const name of new Set((await sights()).map((sight) => sight.name))) {
    const back = firstStepBack(await sightsOf(name));
    check(!back, `progress went back, or showed the end too early: ${JSON.stringify(back)}`);
  }
});

await step('a lost connection is told calmly, and mends itself', async () => {
  watched.provoke(/ERR_INTERNET_DISCONNECTED|ERR_NETWORK|ERR_CONNECTION|Failed to load/);
  await page.context().setOffline(true);
  await page.locator('#banner', { hasText: 'Connection lost' }).waitFor();
  await watched.inspect('connection-lost');
  await page.context().setOffline(false);
  await page.locator('#banner:empty').waitFor({ state: 'attached' });
  watched.provoke();
});

await step('an upload that failed for something that passes is sent again by itself', async () => {
  watched.provoke(/ERR_FAILED|429/);
  const full = { status: 429, contentType: 'application/problem+json', body: '{"detail":"You have 200 videos waiting already."}' };
  const [refused, lost] = copies(TALK, 'refused at first.mp4', 'lost at first.mp4');
  for (const [file, fail] of [[refused, (route) => route.fulfill(full)], [lost, (route) => route.abort()]]) {
    await page.route('**/upload?*', fail, { times: 1 });
    await page.locator('#files').setInputFiles(file);
    await row(file.name).locator('.status', { hasText: 'sent again by itself' }).waitFor();
    await inState(file.name, 'converted');
  }
  watched.provoke();
});

await step('everything is there again after a reload', async () => {
  const before = await page.locator('.row .name').allInnerTexts();
  await page.reload();
  await page.locator('.row').first().waitFor();
  const after = await page.locator('.row .name').allInnerTexts();
  check(before.toSorted().join() === after.toSorted().join(), `before: ${before}; after: ${after}`);
});

await step('what the MP3 is to be like is chosen by keyboard, and kept for the next visit', async () => {
  const chosen = () => page.locator('#presets :checked').inputValue();
  check((await chosen()) === 'music', `without a choice it is ${await chosen()}`);
  await page.locator('#presets :checked').focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  check((await chosen()) === 'small', `two steps lead to ${await chosen()}`);
  await watched.inspect('preset');
  await page.reload();
  await page.locator('.row').first().waitFor();
  check((await chosen()) === 'small', `after a reload it is ${await chosen()}`);
  await page.locator('#files').setInputFiles(copies(TALK, 'smaller.mp4'));
  await inState('smaller.mp4', 'converted');
  const { size } = (await jobs()).find((job) => job.file_name === 'smaller.mp4').mp3;
  check(size < 0.8 * usual, `it has ${size} bytes, and ${usual} without a choice`);
  return `${size} bytes, and ${usual} without a choice`;
});

await step('older videos are shown by keyboard, a page at a time, and stay when the connection comes again', async () => {
  const all = await jobs();
  const size = 2;
  check(all.length > size, `${all.length} videos are too few for two pages`);
  // Two hundred videos would take too long: the server's page, and the list it tells of by itself, are cut to a few.
  const cut = JSON.stringify({ jobs: all.slice(0, size) });
  await page.route(base.href, async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, body: (await answer.text()).replace(/data-list-size="\d+"/, `data-list-size="${size}"`) });
  });
  await page.route('**/api/v1/events', (route) => route.fulfill({ contentType: 'text/event-stream', body: `retry: 1000\nevent: snapshot\ndata: ${cut}\n\n` }));
  await page.reload();
  const more = page.getByRole('button', { name: 'Show older videos' });
  await more.waitFor();
  await watched.inspect('older');
  const rows = page.locator('.row');
  for (let shown = size; await more.isVisible(); shown += size) {
    check((await rows.count()) === Math.min(shown, all.length), `${await rows.count()} videos are shown, not ${shown}`);
    await pressByKeyboard(more);
    await page.locator('#older button[aria-disabled="false"]').waitFor({ state: 'attached' });
    check((await focusedName()) === 'name', 'the focus is not on a video');
    const first = await rows.nth(Math.min(shown, all.length - 1)).locator('.name').evaluate((one) => one === document.activeElement);
    check(first, 'the focus is not on the first video that was added');
  }
  const names = () => page.locator('.row .name').allInnerTexts();
  const before = await names();
  check(before.join() === all.map((job) => job.file_name).join(), `shown are ${before}`);
  await Promise.all([page.waitForResponse(/\/events$/), page.evaluate(() => dispatchEvent(new Event('online')))]);
  await page.waitForTimeout(500);
  check((await names()).join() === before.join(), `after a new connection: ${await names()}`);
  await page.unrouteAll();
  return `${all.length} videos`;
});

await step('an address that leads nowhere says so', async () => {
  watched.provoke(/404/);
  await page.goto(new URL('/nowhere-at-all', base).href);
  await page.locator('h1').waitFor();
  await watched.inspect('problem');
  await page.getByRole('link', { name: 'Back to your videos' }).click();
  await page.locator('.row').first().waitFor();
  watched.provoke();
});

await step('who signs out is out', async () => {
  watched.provoke(/401/);
  await pressByKeyboard(page.getByRole('button', { name: 'Sign out' }));
  await page.getByLabel('E-mail').waitFor();
  const answer = await page.request.get(new URL('/api/v1/jobs', base).href);
  check(answer.status() === 401, `the API answers ${answer.status()} to who is signed out`);
});

await watched.browser.close();
console.log(`${passed} passed, 0 failed`);
