// The tests write another in its place.
export const config = { url: "", key: "", limit: "", nobody: "" };
