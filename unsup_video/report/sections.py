"""Lists the sections of the page in order: a section added here is computed and drawn."""

from unsup_video.evaluation import features, long_range, out_of_domain
from unsup_video.report import page_actions, page_few_labels, page_runs, page_videos
from unsup_video.report.section import Section

SECTIONS: tuple[Section, ...] = (
    page_runs.Runs(),
    page_runs.Learning(),
    page_videos.Table2(),
    page_videos.Figure5(),
    page_videos.Figure(long_range, "Figure 7: long futures", "records"),
    page_videos.Figure(out_of_domain, "Figure 8: other numbers of digits"),
    page_videos.Figure(features, "Figures 9 and 10: features of the weights"),
    page_actions.Table1(),
    page_actions.Classes(),
    page_few_labels.Figure12(),
    page_few_labels.Table3(),
    page_actions.Table4(),
)
