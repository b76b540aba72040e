// Lets files be dropped anywhere on the page, and shows that they can be.

/** Nothing is dragged any more when dragover has not come for so long. */
const SILENCE = 800;

/** @param {(files: File[]) => void} dropped */
export function acceptDrops(dropped) {
  /** dragenter and dragleave come for every element on the way: inside while more were entered than left. */
  let depth = 0;
  let silence = 0;

  /** @param {boolean} dropping */
  const show = (dropping) => {
    clearTimeout(silence);
    document.body.toggleAttribute('data-dropping', dropping);
  };

  /** @param {(event: DragEvent) => void} listener @returns {(event: DragEvent) => void} */
  const forFiles = (listener) => (event) => {
    if (!event.dataTransfer?.types.includes('Files') || document.querySelector('dialog[open]')) return;
    event.preventDefault();
    listener(event);
  };

  addEventListener('dragenter', forFiles(() => {
    depth += 1;
  }));
  addEventListener('dragover', forFiles((event) => {
    if (event.dataTransfer) event.dataTransfer.dropEffect = 'copy';
    show(true);
    // An element that vanishes under the pointer is never left; dragover itself comes twice a second or oftener.
    silence = setTimeout(() => show(false), SILENCE);
  }));
  addEventListener('dragleave', forFiles(() => {
    depth = Math.max(0, depth - 1);
    if (depth === 0) show(false);
  }));
  addEventListener('drop', forFiles((event) => {
    depth = 0;
    show(false);
    dropped([...(event.dataTransfer?.files ?? [])]);
  }));
}
