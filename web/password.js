// Lets the person who types a password see it.

import './session.js';

for (const button of document.querySelectorAll('button[data-reveals]')) {
  const input = document.getElementById(button.getAttribute('data-reveals') ?? '');
  if (button instanceof HTMLButtonElement && input instanceof HTMLInputElement) letReveal(button, input);
}

/**
 * @param {HTMLButtonElement} button
 * @param {HTMLInputElement} input
 */
function letReveal(button, input) {
  /** @param {boolean} shown */
  const show = (shown) => {
    input.type = shown ? 'text' : 'password';
    button.textContent = shown ? 'Hide' : 'Show';
    button.setAttribute('aria-label', shown ? 'Hide password' : 'Show password');
  };
  button.hidden = false;
  button.addEventListener('click', () => show(input.type === 'password'));
  // Browsers offer to save what leaves in a password field.
  input.form?.addEventListener('submit', () => show(false));
}
