// A page under watch: whatever no step of the walk may cause (errors, foreign requests, overflow, axe's findings) fails it.

import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { chromium } from 'playwright-core';

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const SIZES = [
  { width: 1280, height: 860 },
  { width: 390, height: 844 },
];
const SCHEMES = /** @type {const} */ (['light', 'dark']);
/** The least size of what a finger has to hit, in CSS pixels. */
const TOUCH = 44;

/** @param {unknown} holds @param {string} message */
export function check(holds, message) {
  if (!holds) throw new Error(message);
}

/**
 * @param {{ origin: string, executablePath: string, screenshots: string }} options
 */
export async function openWatched({ origin, executablePath, screenshots }) {
  fs.mkdirSync(screenshots, { recursive: true });
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  const context = await browser.newContext({ viewport: SIZES[0], colorScheme: 'light', acceptDownloads: true, locale: 'en-US' });
  const page = await context.newPage();
  const cdp = await context.newCDPSession(page);
  await cdp.send('Network.enable');
  /** @type {string[]} */
  const faults = [];
  /** Console errors that the present step provokes on purpose. @type {RegExp[]} */
  let provoked = [];

  page.on('pageerror', (error) => faults.push(`an exception on the page: ${error.stack ?? error.message}`));
  page.on('console', (message) => {
    const text = `${message.text()} (${message.location().url})`;
    if (message.type() === 'error' && !provoked.some((pattern) => pattern.test(text))) faults.push(`an error on the console: ${text}`);
  });
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (/^(http|ws)/.test(url.protocol) && url.origin !== origin) faults.push(`a request to another origin: ${url}`);
  });

  return {
    browser,
    page,

    /** Fails on whatever was noticed since the last step. */
    assertClean() {
      check(faults.length === 0, `the page caused ${faults.join('; ')}`);
    },

    /** @param {RegExp[]} patterns */
    provoke(...patterns) {
      provoked = patterns;
    },

    /** @param {number} bytesPerSecond 0 for no limit. */
    async limitUploads(bytesPerSecond) {
      const uploadThroughput = bytesPerSecond || -1;
      await cdp.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput });
    },

    /** Looks at the present state at every size in every scheme: overflow, touch targets, axe; and takes its picture. @param {string} state */
    async inspect(state) {
      for (const size of SIZES) {
        for (const colorScheme of SCHEMES) {
          await page.setViewportSize(size);
          await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
          await inspectOnce(page, `${state}-${size.width}-${colorScheme}`, screenshots);
        }
      }
      await page.setViewportSize(SIZES[0]);
      await page.emulateMedia({ colorScheme: 'light', reducedMotion: null });
    },
  };
}

/**
 * @param {import('playwright-core').Page} page
 * @param {string} name
 * @param {string} screenshots
 */
async function inspectOnce(page, name, screenshots) {
  await page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
  const tooWide = await page.evaluate(() => /** @type {Element} */ (document.scrollingElement).scrollWidth - innerWidth);
  check(tooWide <= 0, `${name}: the page is ${tooWide} px wider than the window`);
  const small = await page.evaluate(smallTargets, TOUCH);
  check(small.length === 0, `${name}: too small to touch: ${small.join(', ')}`);
  if (!(await page.evaluate(() => 'axe' in globalThis))) await page.evaluate(`${AXE};0`);
  const violations = await page.evaluate(() => /** @type {any} */ (globalThis).axe.run({ resultTypes: ['violations'] }).then(
    (/** @type {any} */ result) => result.violations.map((/** @type {any} */ found) => `${found.id}: ${found.nodes.map((/** @type {any} */ node) => node.target).join(' ')}`),
  ));
  check(violations.length === 0, `${name}: axe finds ${violations.join('; ')}`);
}

/** Runs in the page. @param {number} least */
function smallTargets(least) {
  return [...document.querySelectorAll('a, button, input, label.button, audio')]
    .filter((element) => element.checkVisibility() && !element.classList.contains('unseen'))
    .map((element) => ({ name: element.textContent?.trim() || element.id || element.tagName, box: element.getBoundingClientRect() }))
    .filter(({ box }) => Math.min(box.width, box.height) < least - 0.5)
    .map(({ name, box }) => `${name} (${box.width} × ${box.height})`);
}
