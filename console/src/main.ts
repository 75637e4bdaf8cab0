import { mount } from "svelte";
import "./styles/index.css";
import "./lib/theme.svelte";
import App from "./App.svelte";

const target = document.getElementById("app");
if (target) mount(App, { target });
