export default {
  compilerOptions: {
    runes: true,
    // By content, so that a build is the same in every directory.
    cssHash: ({ hash, css }) => `s-${hash(css)}`,
  },
};
