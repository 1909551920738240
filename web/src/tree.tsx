import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { layOut, type Placed, type TreePoint } from "./tree-layout.ts";

/** A point with what is written on it. */
export interface TreeNodeData extends TreePoint {
  label: string;
  note: string;
  /** The rest, for who cannot see where it stands. */
  description: string;
}

interface TreeProps {
  /** What it is a tree of. */
  title: string;
  points: readonly TreeNodeData[];
  selected: number | undefined;
  select: (id: number) => void;
}

const nodeWidth = 136;
const nodeHeight = 46;
const columnWidth = 184;
const laneHeight = 88;
const padding = 28;
const zoomMin = 0.08;
const zoomMax = 2;

interface View {
  x: number;
  y: number;
  zoom: number;
}

type Node = Placed<TreeNodeData>;

/** A history as it is drawn on paper: arrows lead to what a point stands on. */
export function Tree({ title, points, selected, select }: TreeProps) {
  const frame = useRef<HTMLDivElement>(null);
  const layout = useMemo(() => layOut(points), [points]);
  const byId = useMemo(() => new Map(layout.placed.map((n) => [n.point.id, n])), [layout]);
  const [box, setBox] = useState({ width: 800, height: 400 });
  const [view, setView] = useState<View>({ x: 0, y: 0, zoom: 1 });
  const width = layout.columns * columnWidth + 2 * padding;
  const height = layout.lanes * laneHeight + 2 * padding;
  const current = selected === undefined ? undefined : byId.get(selected);

  useEffect(() => {
    const element = frame.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => {
      setBox({ width: element.clientWidth, height: element.clientHeight });
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (current !== undefined) setView((before) => broughtIn(before, current, box));
  }, [current?.column, current?.lane, box.width]);
  // Where a key led, as soon as it is drawn: the next key must find the focus there, or where its user put it.
  const awaited = useRef<number>(undefined);
  useLayoutEffect(() => {
    const element = awaited.current && document.getElementById(`node-${awaited.current}`);
    if (!element) return;
    awaited.current = undefined;
    element.focus();
  });

  const zoomAt = (factor: number, at = { x: box.width / 2, y: box.height / 2 }) =>
    setView(({ x, y, zoom }) => {
      const next = Math.min(zoomMax, Math.max(zoomMin, zoom * factor));
      const by = next / zoom;
      return { zoom: next, x: at.x - (at.x - x) * by, y: at.y - (at.y - y) * by };
    });
  const fit = () => {
    const zoom = Math.max(zoomMin, Math.min(1, box.width / width, box.height / height));
    setView({ x: Math.max(0, (box.width - width * zoom) / 2), y: 0, zoom });
  };
  useWheel(frame, zoomAt, (dx, dy) => setView((v) => ({ ...v, x: v.x - dx, y: v.y - dy })));
  const drag = useDrag(view, setView);

  const go = (event: KeyboardEvent) => {
    const next = current === undefined ? undefined : nextOf(event.key, current, layout.placed);
    if (next !== undefined) {
      event.preventDefault();
      select(next.point.id);
      awaited.current = next.point.id;
    } else if (event.key === "+" || event.key === "=") zoomAt(1.25);
    else if (event.key === "-") zoomAt(0.8);
    else if (event.key === "0") fit();
  };
  const visible = layout.placed.filter((node) => isVisible(node, view, box));
  return (
    <section class="tree card" aria-label={title}>
      <div class="tree-tools">
        <button type="button" aria-label="Zoom out" onClick={() => zoomAt(0.8)}>
          −
        </button>
        <button type="button" aria-label="Zoom in" onClick={() => zoomAt(1.25)}>
          +
        </button>
        <button type="button" onClick={fit}>
          Fit
        </button>
      </div>
      <div
        class="tree-frame"
        ref={frame}
        style={{ height: `${Math.min(520, Math.max(190, height))}px` }}
        {...drag}
      >
        <svg width="100%" height="100%" role="group" aria-label={title} onKeyDown={go}>
          <defs>
            <marker
              id="arrow"
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerWidth="8"
              markerHeight="8"
              orient="auto"
            >
              <path d="M0 0.5 7.5 4 0 7.5z" class="arrow" />
            </marker>
          </defs>
          <g transform={`translate(${view.x} ${view.y}) scale(${view.zoom})`}>
            {visible.map((node) => (
              <Edge node={node} key={node.point.id} />
            ))}
            {visible.map((node) => (
              <TreeNode
                node={node}
                key={node.point.id}
                isSelected={node === current}
                isFirst={current === undefined && node === layout.placed[0]}
                select={select}
              />
            ))}
          </g>
        </svg>
      </div>
    </section>
  );
}

function left({ column }: Node): number {
  return padding + column * columnWidth;
}

function top({ lane }: Node): number {
  return padding + lane * laneHeight;
}

function isVisible(node: Node, { x, y, zoom }: View, box: { width: number; height: number }) {
  const right = (left(node) + nodeWidth) * zoom + x;
  const bottom = (top(node) + nodeHeight) * zoom + y;
  // An edge leads to the left or up: as much more, so that none is missing.
  const from = node.parent ?? node;
  const startX = Math.min(left(from), left(node)) * zoom + x;
  const startY = Math.min(top(from), top(node)) * zoom + y;
  return right >= 0 && bottom >= 0 && startX <= box.width && startY <= box.height;
}

/** From a point to what it stands on. */
function Edge({ node }: { node: Node }): ComponentChildren {
  const { parent } = node;
  if (parent === undefined) return null;
  const middle = top(node) + nodeHeight / 2;
  const parentX = left(parent) + nodeWidth / 2;
  const below = top(parent) + nodeHeight + 5;
  const path = node.isBelow
    ? `M${parentX} ${top(node) - 2}V${below}`
    : node.lane === parent.lane
      ? `M${left(node) - 2} ${middle}H${left(parent) + nodeWidth + 5}`
      : `M${left(node) - 2} ${middle}H${parentX + 10}Q${parentX} ${middle} ${parentX} ${middle - 10}V${below}`;
  return <path class="edge" d={path} marker-end="url(#arrow)" />;
}

interface TreeNodeProps {
  node: Node;
  isSelected: boolean;
  /** Where the keyboard comes in, if nothing is selected. */
  isFirst: boolean;
  select: (id: number) => void;
}

function TreeNode({ node, isSelected, isFirst, select }: TreeNodeProps) {
  const { id, label, note, description, isTip } = node.point;
  const choose = () => select(id);
  return (
    <g
      id={`node-${id}`}
      class={`node${isTip ? " tip" : ""}${isSelected ? " selected" : ""}`}
      transform={`translate(${left(node)} ${top(node)})`}
      role="button"
      tabindex={isSelected || isFirst ? 0 : -1}
      aria-pressed={isSelected}
      onClick={choose}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose();
      }}
    >
      <rect width={nodeWidth} height={nodeHeight} rx="9" />
      <text x={nodeWidth / 2} y="20" class="node-label">
        {`${cut(label, 17)} `}
      </text>
      <text x={nodeWidth / 2} y="36" class="node-note">
        {cut(note, 22)}
      </text>
      <text class="node-rest">{`, ${description}`}</text>
    </g>
  );
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

/** Moved as little as it takes for the point to be seen whole. */
function broughtIn(view: View, node: Node, box: { width: number; height: number }): View {
  const { zoom } = view;
  const within = (at: number, from: number, length: number, room: number): number => {
    const start = from * zoom + at;
    if (start < padding / 2) return at + padding / 2 - start;
    const over = start + length * zoom + padding / 2 - room;
    return over > 0 ? at - over : at;
  };
  return {
    zoom,
    x: within(view.x, left(node), nodeWidth, box.width),
    y: within(view.y, top(node), nodeHeight, box.height),
  };
}

/** Where an arrow key leads: along the line, or to the nearest point of another one. */
function nextOf(key: string, from: Node, all: readonly Node[]): Node | undefined {
  if (key === "ArrowLeft") return from.parent;
  if (key === "ArrowRight")
    return from.children.find((c) => c.lane === from.lane) ?? from.children[0];
  if (key === "Home") return all[0];
  if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
  const way = key === "ArrowUp" ? -1 : 1;
  let best: Node | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const node of all) {
    const lanes = (node.lane - from.lane) * way;
    if (lanes <= 0) continue;
    const distance = lanes * 2 + Math.abs(node.column - from.column);
    if (distance < bestDistance) [best, bestDistance] = [node, distance];
  }
  return best;
}

type SetView = (change: (view: View) => View) => void;

/** With the pointer on empty ground, or with two fingers of a touch pad. */
function useDrag(view: View, setView: SetView) {
  const start = useRef<{ x: number; y: number; view: View } | undefined>(undefined);
  return {
    onPointerDown: (event: PointerEvent) => {
      if (event.button !== 0) return;
      start.current = { x: event.clientX, y: event.clientY, view };
    },
    onPointerMove: (event: PointerEvent) => {
      const from = start.current;
      if (from === undefined) return;
      const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
      if (Math.abs(dx) + Math.abs(dy) < 4) return;
      (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
      setView(() => ({ ...from.view, x: from.view.x + dx, y: from.view.y + dy }));
    },
    onPointerUp: () => {
      start.current = undefined;
    },
    onPointerCancel: () => {
      start.current = undefined;
    },
  };
}

/** Not passive, so that the page does not scroll along; with Ctrl, or as a pinch, it zooms. */
function useWheel(
  frame: { current: HTMLDivElement | null },
  zoomAt: (factor: number, at: { x: number; y: number }) => void,
  move: (dx: number, dy: number) => void,
) {
  const latest = useRef({ zoomAt, move });
  latest.current = { zoomAt, move };
  useEffect(() => {
    const element = frame.current;
    const wheel = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey && !event.shiftKey && event.deltaX === 0) return;
      event.preventDefault();
      const box = element?.getBoundingClientRect();
      const at = { x: event.clientX - (box?.left ?? 0), y: event.clientY - (box?.top ?? 0) };
      if (event.ctrlKey || event.metaKey) latest.current.zoomAt(1.002 ** -event.deltaY, at);
      else latest.current.move(event.deltaX + (event.shiftKey ? event.deltaY : 0), 0);
    };
    element?.addEventListener("wheel", wheel, { passive: false });
    return () => element?.removeEventListener("wheel", wheel);
  }, []);
}
