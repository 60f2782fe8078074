import type { ThreadState } from "@langchain/langgraph-sdk";
import type { useStream } from "@langchain/langgraph-sdk/react";
import type { State } from "./server";

type Tree = ReturnType<typeof useStream<State>>["experimental_branchTree"];
type Node = { value: ThreadState<State>; path: string[] };

/** Every checkpoint of a thread, with the branch it is on. */
export function nodesOf(tree: Tree): Node[] {
  return tree.items.flatMap((item) => (item.type === "node" ? [item] : item.items.flatMap(nodesOf)));
}

/** The ids of all messages in any checkpoint. */
export function messageIds(nodes: Node[]): Set<string | undefined> {
  return new Set(nodes.flatMap(({ value }) => value.values.messages?.map(({ id }) => id) ?? []));
}

/** The branch that the thread is on: that of its newest checkpoint. Ids of checkpoints grow with time. */
export function currentBranch(nodes: Node[]): string {
  const idOf = ({ value }: Node) => value.checkpoint?.checkpoint_id ?? "";
  const newest = nodes.reduce<Node | undefined>((best, node) => (!best || idOf(node) > idOf(best) ? node : best), undefined);
  return newest?.path.join(">") ?? "";
}
