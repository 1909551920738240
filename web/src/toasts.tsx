import { useEffect, useState } from "preact/hooks";
import { CallError } from "./api.ts";

interface Toast {
  id: number;
  text: string;
  remedy: string | undefined;
  isError: boolean;
  /** Undoes what it tells of. */
  undo: (() => Promise<unknown>) | undefined;
}

const shownMs = 12_000;
let lastId = 0;
let toasts: Toast[] = [];
let redraw: (toasts: Toast[]) => void = () => {};

function change(next: Toast[]): void {
  toasts = next;
  redraw(toasts);
}

function add(toast: Omit<Toast, "id">): void {
  const id = ++lastId;
  change([...toasts.slice(-3), { id, ...toast }]);
  if (!toast.isError) window.setTimeout(() => remove(id), shownMs);
}

function remove(id: number): void {
  change(toasts.filter((toast) => toast.id !== id));
}

export function tell(text: string, undo?: () => Promise<unknown>): void {
  add({ text, remedy: undefined, isError: false, undo });
}

export function tellError(error: unknown): void {
  const remedy = error instanceof CallError ? error.remedy : undefined;
  const text = error instanceof Error ? error.message : String(error);
  add({ text, remedy, isError: true, undo: undefined });
}

/** What was done, and what can be done about it. Read out by screen readers. */
export function Toasts() {
  const [shown, setShown] = useState(toasts);
  useEffect(() => {
    redraw = setShown;
    return () => {
      redraw = () => {};
    };
  }, []);
  const undo = async (toast: Toast) => {
    remove(toast.id);
    try {
      await toast.undo?.();
      tell("Undone.");
    } catch (error) {
      tellError(error);
    }
  };
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.map((toast) => (
        <div class={toast.isError ? "toast error" : "toast"} key={toast.id}>
          <span>
            {toast.text}
            {toast.remedy !== undefined && <small>{toast.remedy}</small>}
          </span>
          {toast.undo !== undefined && (
            <button type="button" onClick={() => undo(toast)}>
              Undo
            </button>
          )}
          <button type="button" class="quiet" aria-label="Dismiss" onClick={() => remove(toast.id)}>
            ×
          </button>
        </div>
      ))}
    </div>
  );
}
