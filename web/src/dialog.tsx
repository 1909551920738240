import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { CallError } from "./api.ts";

interface DialogProps {
  title: string;
  /** What the button says that does it. */
  verb: string;
  isDangerous?: boolean;
  isReady?: boolean;
  /** Closes the dialog if it does not fail. */
  act: () => Promise<unknown>;
  close: () => void;
  children: ComponentChildren;
}

/** Asks before something is done, or what it needs; says what went wrong. Escape leaves. */
export function Dialog(props: DialogProps) {
  const { title, verb, isDangerous = false, isReady = true, act, close, children } = props;
  const element = useRef<HTMLDialogElement>(null);
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<CallError>();
  useEffect(() => element.current?.showModal(), []);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (isBusy || !isReady) return;
    setBusy(true);
    setError(undefined);
    try {
      await act();
      close();
    } catch (failure) {
      setError(failure as CallError);
      setBusy(false);
    }
  };
  return (
    <dialog ref={element} onClose={close} aria-labelledby="dialog-title">
      <form onSubmit={submit}>
        <h2 id="dialog-title">{title}</h2>
        <div class="dialog-body">{children}</div>
        {error !== undefined && (
          <p class="error" role="alert">
            {error.message}
            {error.remedy !== undefined && <small>{error.remedy}</small>}
          </p>
        )}
        <div class="dialog-buttons">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button
            type="submit"
            class={isDangerous ? "danger" : "primary"}
            disabled={isBusy || !isReady}
          >
            {verb}
          </button>
        </div>
      </form>
    </dialog>
  );
}

interface FieldProps {
  label: string;
  hint?: string;
  value: string;
  change: (value: string) => void;
}

export function Field({ label, hint, value, change }: FieldProps) {
  return (
    <label class="field">
      {label}
      <input
        type="text"
        value={value}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => change(event.currentTarget.value)}
      />
      {hint !== undefined && <small>{hint}</small>}
    </label>
  );
}
