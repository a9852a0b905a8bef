"""How the Studio looks: system fonts, colours of light and dark, one column on a phone. Nothing is fetched."""

from __future__ import annotations

import gradio as gr

FONTS = (
    "system-ui", "-apple-system", "Segoe UI", "Noto Sans", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC",
    "WenQuanYi Micro Hei", "sans-serif",
)  # fmt: skip
MONO = ("ui-monospace", "Consolas", "Menlo", "Noto Sans Mono", "monospace")


def theme() -> gr.themes.Base:
    """Gradio's plain theme in the report's colours, with the fonts that the reader's machine has."""
    teal = gr.themes.Color(
        name="rebus", c50="#eef6f6", c100="#d7eaeb", c200="#b0d4d6", c300="#82b8bc", c400="#4f969c", c500="#2b7c84",
        c600="#1f6f78", c700="#195a62", c800="#15484e", c900="#103a3f", c950="#0a2629",
    )  # fmt: skip
    result = gr.themes.Base(
        primary_hue=teal,
        secondary_hue=teal,
        neutral_hue="stone",
        radius_size="md",
        font=list(FONTS),
        font_mono=list(MONO),
    )
    return result.set(  # greys that can be read on white and on black
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_large_text_size="*text_md",
    )


CSS = """
.gradio-container, .gradio-container > .main, .gradio-container main { width: 100% !important; box-sizing: border-box; }
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; padding: 0 16px 48px !important; }
.rebus-panel { overflow: visible !important; }
#rebus-head h1 { font-size: 1.5rem; margin: 14px 0 0; line-height: 1.2; }
#rebus-head p { margin: 2px 0 0; color: var(--body-text-color-subdued); }
#rebus-top { align-items: end; } #lang .wrap { flex-wrap: nowrap; } #lang label { padding: 6px 10px; }
.block.rebus-panel:has(> .html-container > .prose:empty) { display: none; }
.rebus-drop [data-testid=upload-text] { font-size: 0; } .rebus-drop .or { display: none; }
.rebus-drop .upload-container { height: 96px !important; min-height: 0 !important; padding-top: 24px; }
.rebus-end { align-items: end; }
.rebus-panel h2 { font-size: 1.1rem; margin: 14px 0 6px; }
.rebus-panel h3 { font-size: 1rem; margin: 0 0 6px; }
.rebus-panel img { max-width: 100%; height: auto; border-radius: 6px; }
.rebus-panel :focus-visible, button:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid #b3541e !important; outline-offset: 2px; }
.problem { border-left: 4px solid #a93434; background: #fbeeee; color: #3a1414; padding: 10px 14px;
  border-radius: 6px; }
.dark .problem { background: #3a1a1a; color: #f6dcdc; }
.problem dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 12px; margin: 0; }
.problem dt { font-weight: 600; } .problem dd { margin: 0; overflow-wrap: anywhere; }
.note, .good, .warn { padding: 8px 12px; border-radius: 6px; margin: 6px 0;
  background: var(--background-fill-secondary); }
.good { border-left: 4px solid #25713f; } .warn { border-left: 4px solid #c9a227; }
.turns { list-style: none; margin: 0; padding: 0; display: flex; flex-direction: column; gap: 10px; }
.turns .asked { align-self: flex-end; background: var(--primary-100); color: #10302f; padding: 8px 12px;
  border-radius: 12px 12px 2px 12px; max-width: 85%; overflow-wrap: anywhere; }
.dark .turns .asked { background: var(--primary-800); color: #eef6f6; }
.turns .asked img { display: block; max-height: 96px; margin-bottom: 6px; }
.turns .said { align-self: flex-start; background: var(--background-fill-secondary); padding: 8px 12px;
  border-radius: 12px 12px 12px 2px; max-width: 95%; min-width: 0; overflow-wrap: anywhere; line-height: 1.9; }
.word { background: none; border: 0; border-bottom: 2px dotted var(--primary-400); padding: 1px 1px; margin: 0 1px;
  font: inherit; color: inherit; cursor: pointer; border-radius: 3px; min-height: 24px; }
.word:hover, .word[aria-pressed=true] { background: var(--primary-600); color: #fff; }
.hint { color: var(--body-text-color-subdued); font-size: .9rem; margin: 4px 0 0; }
.bars { list-style: none; padding: 0; margin: 8px 0 0; width: min(480px, 78vw); }
.bars .bar { display: grid; grid-template-columns: minmax(64px, 30%) 1fr 56px; gap: 8px; align-items: center;
  width: 100%;
  background: none; border: 0; padding: 5px 6px; font: inherit; color: inherit; text-align: left; border-radius: 6px; }
button.bar { cursor: pointer; } button.bar:hover, button.bar[aria-pressed=true] { background: var(--primary-100);
  color: #10302f; }
.dark button.bar:hover, .dark button.bar[aria-pressed=true] { background: var(--primary-800); color: #eef6f6; }
.bars .name { overflow-wrap: anywhere; line-height: 1.3; }
.bars .track { display: block; height: 10px; background: var(--border-color-primary); border-radius: 5px;
  overflow: hidden; }
.bars .fill { display: block; height: 100%; background: var(--primary-600); }
.bars .share { text-align: right; font-variant-numeric: tabular-nums; }
.seen figure { margin: 0; } .seen figcaption { margin-top: 6px; color: var(--body-text-color-subdued); }
.seen img { width: min(100%, 760px); image-rendering: auto; }
.seen .tokens { margin-top: 8px; line-height: 2; } .seen .tokens span { padding: 2px 3px; border-radius: 3px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); gap: 10px; list-style: none;
  padding: 0; margin: 8px 0; }
.cards button { width: 100%; height: 100%; text-align: left; background: var(--background-fill-secondary); padding: 8px;
  border: 1px solid var(--border-color-primary); border-radius: 8px; font: inherit; color: inherit; cursor: pointer;
  display: flex; flex-direction: column; gap: 6px; }
.cards button:hover, .cards button[aria-pressed=true] { border-color: var(--primary-600); }
.cards img, .cards .none { width: 100%; aspect-ratio: 1; object-fit: contain;
  background: var(--border-color-primary); border-radius: 6px; }
.cards .none { display: grid; place-items: center; font-size: 1.5rem; color: var(--body-text-color-subdued); }
.cards .line { font-size: .88rem; line-height: 1.35; overflow-wrap: anywhere; display: -webkit-box;
  -webkit-line-clamp: 4;
  -webkit-box-orient: vertical; overflow: hidden; }
.cards .tag { font-size: .8rem; color: var(--body-text-color-subdued); }
.cards .wrong { color: #a93434; font-weight: 600; } .dark .cards .wrong { color: #f0a3a3; }
.detail { display: grid; grid-template-columns: minmax(0, 320px) 1fr; gap: 16px; padding: 12px;
  border: 1px solid var(--border-color-primary); border-radius: 8px; }
.detail dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 12px; margin: 0; align-content: start; }
.detail dt { font-weight: 600; } .detail dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap;
  max-height: 12em; overflow-y: auto; }
.scroll { overflow-x: auto; margin: 8px 0; }
.scroll table { border-collapse: collapse; width: 100%; font-size: .92rem; }
.scroll caption { text-align: left; font-weight: 600; padding: 4px 0; }
.scroll table, .scroll tr { border: 0 !important; }
.scroll th, .scroll td { text-align: left !important; padding: 6px 10px !important; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important; vertical-align: top; }
.scroll th { font-weight: 600; white-space: nowrap; }
.scroll td .sub { display: block; color: var(--body-text-color-subdued); font-size: .85rem; }
.scroll td.best { font-weight: 700; }
.progress { height: 10px; background: var(--border-color-primary); border-radius: 5px; overflow: hidden;
  margin: 6px 0; }
.progress span { display: block; height: 100%; background: var(--primary-600); }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 14px; margin: 8px 0; }
.curves figure { margin: 0; } .curves svg { width: 100%; height: auto; display: block; }
  .curves figcaption { font-weight: 600; }
.log { max-height: 220px; overflow: auto; font-family: var(--font-mono); font-size: .82rem; white-space: pre-wrap;
  overflow-wrap: anywhere;
  background: var(--background-fill-secondary); padding: 8px; border-radius: 6px; }
.samples { padding-left: 1.2em; margin: 6px 0; } .samples li { overflow-wrap: anywhere; }
.small { font-size: .88rem; }
.busy { display: inline-block; width: 1em; height: 1em; margin-right: .5em; vertical-align: -.15em; border-radius: 50%;
  border: 2px solid var(--border-color-primary); border-top-color: var(--primary-600);
  animation: rebus-turn .8s linear infinite; }
@keyframes rebus-turn { to { transform: rotate(360deg); } }
@media (prefers-reduced-motion: reduce) { .busy { animation-duration: 4s; } }
.offers { display: flex; flex-wrap: wrap; gap: 8px; margin: 10px 0; }
.offers a, .offers button { padding: 8px 16px; border-radius: 8px; border: 1px solid var(--primary-600); font: inherit;
  background: var(--primary-600); color: #fff !important; text-decoration: none !important; cursor: pointer; }
.offers a { background: none; color: var(--primary-700) !important; }
.dark .offers a { color: var(--primary-300) !important; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: 8px; list-style: none;
  padding: 0; margin: 6px 0; }
.examples button { width: 100%; height: 100%; text-align: left; display: flex; gap: 8px; align-items: center;
  padding: 6px;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); border-radius: 8px;
  font: inherit; font-size: .85rem; color: inherit; cursor: pointer; }
.examples button:hover { border-color: var(--primary-600); }
.examples img { width: 44px; height: 44px; object-fit: contain; flex: none; }
.examples span { overflow-wrap: anywhere; display: -webkit-box; -webkit-line-clamp: 3; -webkit-box-orient: vertical;
  overflow: hidden; }
"""

# For phones. Gradio takes no account of a width in the style it is given above, so this stands in the page's head.
PHONE = """
@media (max-width: 640px) {
  .gradio-container { padding: 0 8px 32px !important; }
  .gradio-container > .main, .gradio-container main { padding: 0 !important; }
  .tab-container button { padding: 6px 9px !important; font-size: .95rem !important; }
  .gradio-container .tabitem { padding-left: 0 !important; padding-right: 0 !important; }
  .rebus-panel .detail { grid-template-columns: 1fr !important; }
  .rebus-panel .cards { grid-template-columns: repeat(2, 1fr) !important; }
  .rebus-panel .problem dl, .rebus-panel .detail dl { grid-template-columns: 1fr !important; }
  .rebus-panel .problem dd, .rebus-panel .detail dd { margin-bottom: 4px !important; }
}
"""
