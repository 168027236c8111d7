extension Page {
  /// One style for all pages. Text has a contrast of at least 4.5 to 1 with what is behind it, plots of 3 to 1.
  static let style = """
    :root {
      color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --card: #f6f8fa; --soft: #59636e; --line: #d1d9e0;
      --blue: #0969da; --purple: #8250df; --grey: #6e7781; --green: #1a7f37; --red: #cf222e; --amber: #8a5a00;
      --good: #1a7f3724;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --ink: #e6edf3; --paper: #0d1117; --card: #161b22; --soft: #9198a1; --line: #3d444d; --blue: #4493f8;
        --purple: #ab7df8; --grey: #848d97; --green: #3fb950; --red: #f85149; --amber: #d29922; --good: #3fb95033;
      }
    }
    * { box-sizing: border-box; }
    body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0; }
    main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
    h1, h2, h3, h4 { line-height: 1.3; text-wrap: balance; }
    h1 { font-size: 1.6rem; margin: .6rem 0; }
    h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; }
    h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
    h4 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
    p { margin: .5rem 0; max-width: 46rem; }
    h1, h2, h3, h4, p, dd, li { overflow-wrap: anywhere; }
    a { color: var(--blue); }
    code { font-size: .9em; }
    .soft, figcaption { color: var(--soft); font-size: .9rem; }

    .pass { --tone: var(--green); } .fail { --tone: var(--red); } .inconclusive { --tone: var(--amber); }
    .lost { --tone: var(--red); } .gained { --tone: var(--green); } .neither { --tone: var(--soft); }
    .mark { display: inline-block; color: var(--tone); font-weight: 600; font-size: .85rem; }
    .verdict { border-left: .3rem solid var(--tone); background: var(--card); padding: 1rem 1.2rem; }
    .verdict .mark { font-size: 1rem; letter-spacing: .06em; }
    .verdict h2 { margin-top: .6rem; }
    .verdict p:last-child { margin-bottom: 0; }
    article:not(:first-child) { margin-top: 4rem; }
    .cards {
      display: grid; grid-template-columns: repeat(auto-fill, minmax(min(9.2rem, 100%), 1fr)); gap: .7rem;
      margin: 1.2rem 0;
    }
    .cards div { border: 1px solid var(--line); border-radius: .3rem; padding: .6rem .8rem; line-height: 1.4; }
    .cards b { display: block; font-size: 1.25rem; }
    .cards span { color: var(--soft); font-size: .85rem; }

    .checks { list-style: none; padding: 0; margin: .8rem 0; }
    .checks li {
      display: grid; grid-template-columns: 5rem 1fr 14rem 20rem; gap: 0 1rem; align-items: center; padding: .45rem 0;
      border-bottom: 1px solid var(--line);
    }
    .checks svg { display: block; width: 100%; height: 24px; }
    .checks .value { font-size: .9rem; font-variant-numeric: tabular-nums; }

    table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-size: .95rem; }
    th, td {
      padding: .4rem .8rem .4rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top;
      font-weight: 400;
    }
    th:last-child, td:last-child { padding-right: 0; }
    thead th { color: var(--soft); font-size: .85rem; vertical-align: bottom; }
    .n { text-align: right; font-variant-numeric: tabular-nums; }
    td.n { white-space: nowrap; }
    .stack tbody th, .stack td { overflow-wrap: anywhere; }
    .stack .mark { white-space: nowrap; }

    .plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1.6rem; }
    .plots { margin: 1.4rem 0; }
    figure { margin: 0; }
    figure > svg { display: block; width: 100%; max-width: 27rem; height: auto; margin-bottom: .4rem; }
    figcaption svg { width: .75em; height: .75em; }
    svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }

    .changes {
      display: grid; grid-template-columns: 1fr 1fr 1fr; gap: 0 1.2rem; padding: .8rem 0;
      border-bottom: 1px solid var(--line);
    }
    .changes > .mark { grid-column: 1 / -1; }
    .changes p, td p { margin: 0; font-size: .9rem; }
    img, video {
      height: 6rem; max-width: 100%; object-fit: contain; object-position: left; image-rendering: pixelated;
      display: block; margin: .3rem 0;
    }
    details { border-bottom: 1px solid var(--line); padding: .6rem 0; }
    summary { cursor: pointer; font-weight: 600; }
    dl { display: grid; grid-template-columns: minmax(8rem, 14rem) 1fr; gap: .4rem 1rem; margin: .8rem 0; }
    dt { color: var(--soft); }
    dd { margin: 0; }

    .lanes > div { display: grid; grid-template-columns: 17rem 1fr; gap: 0 1rem; align-items: center; }
    .lanes { font-size: .9rem; }
    .lanes svg { display: block; width: 100%; height: 22px; background: var(--card); }
    .lanes .ticks { display: flex; justify-content: space-between; color: var(--soft); }

    @media (max-width: 55rem) {
      .checks li { grid-template-columns: 1fr auto; }
      .checks .name { grid-area: 1 / 1; } .checks .mark { grid-area: 1 / 2; }
      .checks svg, .checks .value { grid-column: 1 / -1; }
    }
    @media (max-width: 40rem) {
      .changes, .lanes > div, dl { grid-template-columns: 1fr; }
      .changes > div { margin-top: .4rem; }
      dl { gap: 0; } dd { margin-bottom: .6rem; }
      table { font-size: .85rem; } th, td { padding-right: .5rem; }
      .stack, .stack tbody, .stack tr, .stack th, .stack td { display: block; }
      .stack thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
      .stack tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
      .stack th, .stack td { border: 0; padding: .1rem 0; }
      .stack tbody th { font-weight: 600; }
      .stack td { display: flex; justify-content: space-between; gap: 1rem; }
      .stack td::before { content: attr(data-label); color: var(--soft); white-space: nowrap; }
    }
    """
}
