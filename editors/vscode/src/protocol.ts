// What the server sends and answers, as far as this extension uses it.

export interface Hit {
  path: string;
  start_line: number;
  end_line: number;
  symbol: string;
  kind: string;
  text: string;
}

export interface IndexStatus {
  state: string;
  percent: number;
  files: number;
  stale_files: number;
}

export interface Run {
  id: string;
  task: string;
  status: string;
  reason: string;
  output: string;
  step_count: number;
  tokens_in: number;
  tokens_out: number;
  cost_nano_usd: number;
  unpriced_calls: number;
}

export interface StoredEvent {
  seq: number;
  type: string;
  time: number;
  payload: Record<string, unknown>;
}

export interface RunEvent {
  run_id: string;
  seq: number;
  event: StoredEvent;
}

export interface ServerStatus {
  health: "ok" | "warning" | "error";
  quiescent: boolean;
  message: string;
  index: IndexStatus | null;
}

export interface Approval {
  id: string;
  title: string;
  preview: string;
  command: string | null;
  decision: { reason: string; profile: string };
}

export interface Checkpoint {
  id: string;
  label: string;
  kind: string;
  created_at: number;
}
