// The choice of what the next MP3s are to be like; kept in this browser for the next visit.

const KEPT = 'tapedeck.preset';

/**
 * @param {HTMLElement} group Holds a radio button for each preset.
 * @returns {() => string} The preset that is chosen now.
 */
export function presetChoice(group) {
  const radios = [...group.querySelectorAll('input')];
  const kept = radios.find((radio) => radio.value === remembered());
  if (kept) kept.checked = true;
  const chosen = () => radios.find((radio) => radio.checked)?.value ?? '';
  group.addEventListener('change', () => remember(chosen()));
  return chosen;
}

function remembered() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    // Some browsers keep nothing for a page that may set no cookies.
    return null;
  }
}

/** @param {string} preset */
function remember(preset) {
  try {
    localStorage.setItem(KEPT, preset);
  } catch {
    // Then it holds until the page is left.
  }
}
