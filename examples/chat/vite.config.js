import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Relative, so that the built page may be served from anywhere.
export default defineConfig({ base: "./", plugins: [react()], build: { chunkSizeWarningLimit: 1000 } });
