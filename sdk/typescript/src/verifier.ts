export { Verifier, type VerifierOptions } from "./verifier/verifier.js";
