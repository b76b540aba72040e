// One row of the list: patches its elements and never rebuilds them, so that sound plays on and focus stays.

import { waveformOf } from './waveform.js';

/** @typedef {import('./views.js').View} View */
/** @typedef {import('./views.js').Offer} Offer */

/**
 * @param {ParentNode} root
 * @param {string} selector
 * @returns {HTMLElement}
 */
const part = (root, selector) => /** @type {HTMLElement} */ (root.querySelector(selector));

/** @param {Element} element @param {string} text */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {Element} holder @param {string} glyph */
function setGlyph(holder, glyph) {
  const use = holder.querySelector('use');
  const href = `#glyph-${glyph}`;
  if (use && use.getAttribute('href') !== href) use.setAttribute('href', href);
}

/** @param {Element} offer */
const nameOf = (offer) => offer.getAttribute('data-offer') ?? '';

export class Row {
  /** @param {(row: Row, offer: string) => void} chosen Told when a button of this row is pressed. */
  constructor(chosen) {
    const template = /** @type {HTMLTemplateElement} */ (document.getElementById('row'));
    const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    this.element = part(copy, '.row');
    this.chosen = chosen;
    /** The key it is found by: an upload's key, then a job's id. */
    this.key = '';
    /** When its video came, in milliseconds: newer rows stand above older ones. */
    this.since = Date.now();
    this.name = part(copy, '.name');
    this.status = part(copy, '.status');
    this.bar = /** @type {HTMLProgressElement} */ (part(copy, '.bar'));
    this.note = part(copy, '.note');
    this.player = part(copy, '.player');
    this.actions = part(copy, '.actions');
    this.busy = false;
  }

  /** @param {View} view */
  show(view) {
    if (view.state !== this.element.dataset.state) this.say('');
    this.element.dataset.state = view.state;
    this.element.dataset.tone = view.tone;
    setText(this.name, view.name);
    setText(this.status, view.text);
    setGlyph(part(this.element, '.glyph'), view.glyph);
    this.#showProgress(view);
    this.#showPlayer(view);
    this.#showOffers(view);
  }

  /** A sentence about what was just tried in vain; '' takes it away. @param {string} sentence */
  say(sentence) {
    this.note.hidden = !sentence;
    setText(this.note, sentence);
  }

  /** While the server is asked, a second press does nothing. @param {boolean} busy */
  setBusy(busy) {
    this.busy = busy;
    for (const button of this.actions.querySelectorAll('button')) button.setAttribute('aria-disabled', String(busy));
  }

  get hasFocus() {
    return this.element.contains(document.activeElement);
  }

  focus() {
    this.name.focus({ preventScroll: true });
    this.element.scrollIntoView({ block: 'nearest' });
  }

  /** @param {View} view */
  #showProgress({ bar, progress, barLabel, name }) {
    this.bar.hidden = bar === 'none';
    // An empty bar only keeps the place, so that rows do not jump.
    this.bar.ariaHidden = String(bar === 'idle');
    this.bar.value = Math.min(progress, 0.99);
    this.bar.setAttribute('aria-label', `${barLabel || 'Progress'} of ${name}`);
  }

  /** @param {View} view */
  #showPlayer({ sound, name }) {
    this.player.hidden = !sound;
    this.element.classList.toggle('has-player', Boolean(sound));
    const audio = this.player.querySelector('audio');
    if (!sound) {
      audio?.pause();
      this.player.replaceChildren();
    } else if (!audio) {
      const player = playerOf(sound.path, name);
      if (sound.peaks) this.player.append(waveformOf(player, sound.id, sound.seconds));
      this.player.append(player);
    }
  }

  /** @param {View} view */
  #showOffers({ offers, name }) {
    const wanted = new Set(offers.map((offer) => offer.name));
    for (const old of [...this.actions.children]) {
      if (wanted.has(nameOf(old))) continue;
      // Focus falls to the name, not to a neighbour: whoever is about to press "Cancel" must not press "Delete".
      if (old === document.activeElement) this.focus();
      old.remove();
    }
    offers.forEach((offer, place) => {
      const element = this.#offered(offer.name) ?? this.#newOffer(offer);
      setText(part(element, 'span'), offer.label);
      element.setAttribute('aria-label', `${offer.label}: ${name}`);
      if (this.actions.children[place] !== element) this.actions.insertBefore(element, this.actions.children[place] ?? null);
    });
  }

  /** @param {string} name */
  #offered(name) {
    return [...this.actions.children].find((child) => nameOf(child) === name);
  }

  /** @param {Offer} offer */
  #newOffer(offer) {
    const element = document.createElement(offer.href ? 'a' : 'button');
    element.className = `button ${offer.look}`;
    element.dataset.offer = offer.name;
    element.append(glyphOf(offer.glyph), document.createElement('span'));
    if (element instanceof HTMLAnchorElement) {
      element.href = offer.href ?? '';
      element.download = offer.download ?? '';
    } else {
      element.type = 'button';
      element.addEventListener('click', () => this.busy || this.chosen(this, offer.name));
    }
    return element;
  }
}

/** @param {string} glyph */
function glyphOf(glyph) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('focusable', 'false');
  use.setAttribute('href', `#glyph-${glyph}`);
  svg.append(use);
  return svg;
}

/** @param {string} src @param {string} name */
function playerOf(src, name) {
  const audio = document.createElement('audio');
  audio.controls = true;
  audio.preload = 'none';
  audio.src = src;
  audio.setAttribute('aria-label', `Listen to ${name}`);
  audio.addEventListener('play', () => {
    for (const other of document.querySelectorAll('audio')) if (other !== audio) other.pause();
    if ('mediaSession' in navigator) navigator.mediaSession.metadata = new MediaMetadata({ title: name, artist: 'Tapedeck' });
  });
  return audio;
}
