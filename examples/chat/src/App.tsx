import { useEffect, useState } from "react";
import { Conversation } from "./Conversation";
import { Sidebar } from "./Sidebar";
import { useThreads } from "./useThreads";

const threadInUrl = () => new URLSearchParams(location.search).get("thread");

function urlOf(threadId: string | null): string {
  const query = new URLSearchParams(location.search);
  if (threadId === null) query.delete("thread");
  else query.set("thread", threadId);
  return `?${query}`;
}

export function App() {
  // A conversation keeps its place on the page when its first message makes its thread.
  const [open, setOpen] = useState(() => ({ threadId: threadInUrl(), visit: 0 }));
  const [menu, setMenu] = useState(false);
  const { threads, refresh, remove } = useThreads();

  useEffect(() => {
    const back = () => setOpen(({ visit }) => ({ threadId: threadInUrl(), visit: visit + 1 }));
    window.addEventListener("popstate", back);
    return () => window.removeEventListener("popstate", back);
  }, []);

  function go(threadId: string | null) {
    setMenu(false);
    history.pushState(null, "", urlOf(threadId));
    setOpen(({ visit }) => ({ threadId, visit: visit + 1 }));
  }

  function begun(threadId: string) {
    if (threadId !== threadInUrl()) history.replaceState(null, "", urlOf(threadId));
    setOpen(({ visit }) => ({ threadId, visit }));
  }

  async function removed(threadId: string) {
    await remove(threadId);
    if (threadId === open.threadId) go(null);
  }

  return (
    <div className="app">
      <Sidebar
        threads={threads}
        current={open.threadId}
        open={menu}
        onOpen={setMenu}
        onChoose={go}
        onRemove={(threadId) => void removed(threadId)}
      />
      <Conversation key={open.visit} threadId={open.threadId} onThread={begun} onChange={refresh} />
    </div>
  );
}
