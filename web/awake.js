// Keeps a phone from falling asleep while it uploads: a sleeping phone cuts the connection.

let wanted = false;
/** @type {WakeLockSentinel | null} */
let lock = null;

/** @param {boolean} awake */
export function keepAwake(awake) {
  if (awake === wanted) return;
  wanted = awake;
  settle();
}

async function settle() {
  if (!('wakeLock' in navigator)) return;
  if (!wanted) {
    await lock?.release();
    lock = null;
  } else if (!document.hidden) {
    // Refused when the battery is low; then the upload goes on without it.
    lock = await navigator.wakeLock.request('screen').catch(() => null);
    if (!wanted) await settle();
  }
}

// The browser takes the lock away whenever the page is hidden.
document.addEventListener('visibilitychange', settle);
