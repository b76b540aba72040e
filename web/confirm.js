// Asks before something is deleted: a modal dialog, whose first answer is the harmless one.

/**
 * @param {{ title: string, text: string }} question
 * @returns {Promise<boolean>} True when the person wants it deleted. Focus is back where it was.
 */
export function confirmDeletion({ title, text }) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById('confirm'));
  /** @type {HTMLElement} */ (dialog.querySelector('#confirm-title')).textContent = title;
  /** @type {HTMLElement} */ (dialog.querySelector('#confirm-text')).textContent = text;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener('close', () => answer(dialog.returnValue === 'delete'), { once: true });
  });
}
