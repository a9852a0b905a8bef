"""Every text that the Studio shows, in English and in Chinese."""

from __future__ import annotations

from rebus.errors import RebusError

LANGUAGES = ("en", "zh")

WORDS: dict[str, tuple[str, str]] = {
    "title": ("Rebus Studio", "Rebus 工作室"),
    "head": (
        "<h1>Rebus Studio</h1><p>Ask, explore, train, compare, follow</p>",
        "<h1>Rebus 工作室</h1><p>提问、浏览、训练、对比、追踪</p>",
    ),
    "run": ("Model (a Run folder)", "模型（Run 文件夹）"),
    "language": ("Language", "语言"),
    "page.ask": ("Ask", "提问"),
    "page.explore": ("Explore", "浏览"),
    "page.train": ("Train", "训练"),
    "page.compare": ("Compare", "对比"),
    "page.flow": ("Flow", "追踪"),
    "door.key": ("The server's key", "服务器密钥"),
    "door.enter": ("Enter", "进入"),
    "door.wrong": ("That is not the key.", "密钥不对。"),
    "error.title": ("That did not work", "没有成功"),
    "error.inside": (
        "the model|an answer|{found}, whose details are in the server's log|try something smaller; if it stays, report "
        "it with the output of `rebus doctor`",
        "模型|一个回答|{found}，详情见服务器日志|换小一点的内容再试；如仍出错，请附上 `rebus doctor` 的输出反馈",
    ),
    # Problems in four parts: where, expected, found, what to do
    "what.table": ("the table", "表格"),
    "what.model": ("the model", "模型"),
    "what.run": ("the Run's folder", "Run 文件夹"),
    "what.folder": ("the folder of Runs", "Run 所在文件夹"),
    "problem.nothing_asked": (
        "the question|an image or a question|neither|drop an image, or write a question",
        "问题|图片或问题|两者都没有|拖入一张图片，或写一个问题",
    ),
    "problem.no_path": (
        "{what}|a path|nothing, or a zero byte in it|choose one of the list, type one, or drop a file",
        "{what}|一个路径|什么也没有，或其中有零字节|从列表中选择、输入一个路径，或拖入文件",
    ),
    "problem.outside": (
        "{what}|a path below {roots}|'{typed}'|move it there, or start the Studio with --root FOLDER above it",
        "{what}|{roots} 之下的路径|“{typed}”|把它移到那里，或用 --root 指定更上层的文件夹来启动工作室",
    ),
    "problem.image_outside": (
        "{where}|an image below the table's folder or the Studio's|'{named}'|start the Studio with --root FOLDER",
        "{where}|位于表格所在文件夹或工作室文件夹之下的图片|“{named}”|用 --root 指定文件夹来启动工作室",
    ),
    "problem.not_dropped": (
        "the file|a file that was dropped here|another path|drop the file again",
        "文件|在此处拖入的文件|别的路径|重新拖入文件",
    ),
    "problem.no_table": (
        "{typed}|a table or a folder|no such file|check the path; relative ones begin at {home}",
        "{typed}|表格或文件夹|没有这个文件|检查路径；相对路径从 {home} 开始",
    ),
    "problem.no_folder": ("{typed}|a folder|no such folder|check the path", "{typed}|文件夹|没有这个文件夹|检查路径"),
    "problem.no_run": (
        "the model|a Run to talk with|none|train one on the page Train, or choose one above",
        "模型|一个可以对话的 Run|还没有|在“训练”页面训练一个，或在上面选择一个",
    ),
    "problem.loading": (
        "{folder}|a model that is loaded|that it is being loaded|wait some seconds, then try again",
        "{folder}|已载入的模型|模型正在载入|等几秒再试",
    ),
    "problem.gone": (
        "{folder}|the folder that this model was loaded from|that it was moved or deleted|the model still answers from "
        "memory until the Studio ends; put the folder back to keep it",
        "{folder}|载入该模型的文件夹|它已被移动或删除|工作室退出之前，模型仍可从内存回答；要保留它，请放回文件夹",
    ),
    "problem.no_own_table": (
        "the table|a table|none|choose or type a path, or choose a Run above",
        "表格|一个表格|没有|选择或输入一个路径，或在上面选择一个 Run",
    ),
    "problem.no_sample": ("the image|an image|none|drop one first", "图片|一张图片|没有|先拖入一张"),
    "problem.no_words": (
        "the words|words to look for|nothing|write some first",
        "文字|要查找的文字|什么也没有|先写一些",
    ),
    "problem.other_table": (
        "more settings|no other table than the one above|'{typed}'|name the table above",
        "其他设置|只用上面的表格|“{typed}”|在上面填写表格",
    ),
    "problem.no_setting": (
        "more settings|KEY=VALUE, one a line|'{line}'|write it like train.steps=500",
        "其他设置|KEY=VALUE，每行一个|“{line}”|例如 train.steps=500",
    ),
    "problem.is_a_run": (
        "{folder}|a new or empty folder|a Run|choose another folder, or go on with this Run by the button Resume",
        "{folder}|新的或空的文件夹|一个 Run|选择另一个文件夹，或点按“继续”接着训练这个 Run",
    ),
    "problem.not_begun": (
        "{folder}|a Run that was begun|none|start one with the button Start",
        "{folder}|已经开始的 Run|没有|点按“开始”来开始一个",
    ),
    "problem.is_finished": (
        "{folder}|a Run that was stopped|one that is finished|start a new one in another folder",
        "{folder}|已停止的 Run|它已完成|在另一个文件夹开始新的训练",
    ),
    "problem.none_runs": (
        "{folder}|a training that runs|none|nothing is left to stop",
        "{folder}|正在进行的训练|没有|没有可停止的训练",
    ),
    "problem.cannot_stop": (
        "{folder}|a training that can be stopped|process {owner}, which ended or belongs to somebody else|look "
        "again in a moment",
        "{folder}|可以停止的训练|进程 {owner}，它已结束或属于他人|稍后再看",
    ),
    "problem.is_trained": (
        "{folder}|a Run that no other process is training|that process {owner}, started here or by another Studio, is "
        "training it|watch it here (nothing is lost), stop it first, or choose another folder",
        "{folder}|没有其他进程在训练的 Run|进程 {owner}（由此处或另一个工作室启动）正在训练它|"
        "在此观察（不会丢失任何内容）、先停止它，"
        "或选择另一个文件夹",
    ),
    "error.where": ("Where", "位置"),
    "error.expected": ("Expected", "应为"),
    "error.found": ("Found", "实际"),
    "error.do": ("What to do", "怎么办"),
    "split.train": ("train", "训练"),
    "split.valid": ("valid", "验证"),
    "split.test": ("test", "测试"),
    "kind.image": ("image", "图片"),
    "kind.text": ("text", "文本"),
    "kind.category": ("category", "类别"),
    "kind.labels": ("labels", "多标签"),
    "kind.number": ("number", "数值"),
    "kind.boxes": ("boxes", "方框"),
    "kind.tags": ("tags", "词标注"),
    "kind.messages": ("messages", "对话"),
    "kind.ignore": ("ignored", "忽略"),
    # Ask
    "ask.image": (
        "Image: drop, paste, choose a file or use the camera",
        "图片：拖入、粘贴、选择文件或用摄像头拍摄",
    ),
    "ask.image_alt": ("the image", "图片"),
    "ask.task": ("Task", "任务"),
    "ask.question": ("Question", "问题"),
    "ask.placeholder": ("What is in the image?", "图片里有什么？"),
    "ask.send": ("Ask", "提问"),
    "ask.clear": ("Begin anew", "重新开始"),
    "ask.empty": (
        "Drop an image, write a question in English or Chinese, and ask. Then press a word of the answer to see where "
        "the model looked.",
        "拖入一张图片，用中文或英文提问。得到回答后，点按其中的词，看模型注意了哪里。",
    ),
    "ask.no_question": ("(no question)", "（无问题）"),
    "ask.silent": ("(the model said nothing)", "（模型没有回答）"),
    "ask.talk": ("Conversation", "对话"),
    "ask.hint": (
        "Press a word or a label to see where the model looked.",
        "点按一个词或标签，看模型注意了哪里。",
    ),
    "ask.examples": ("Try one of its table", "试试表格中的例子"),
    "ask.example": ("Ask about the image of row {row}: {text}", "就第 {row} 行的图片提问：{text}"),
    "ask.working": ("Working…", "请稍候……"),
    "ask.no_model": (
        "There is no model yet: train one on the page Train, or choose a Run above.",
        "还没有模型：请在“训练”页面训练一个，或在上面选择一个 Run。",
    ),
    "command": ("The same as a command", "等价的命令"),
    "ask.where": ("where the model looked", "模型注意了哪里"),
    "ask.where_for": ("Where the model looked for {name}", "模型为“{name}”注意了哪里"),
    "ask.seen": ("Why “{name}”", "为什么是“{name}”"),
    "ask.map_alt": (
        "The image, and the same image with a map of where the model looked for {name}",
        "原图，以及标出模型为“{name}”注意了哪里的同一张图",
    ),
    "ask.caption": (
        "Left: the image. Right: warm where it mattered. Method: {method}; score {score}.",
        "左：原图。右：颜色越暖越重要。方法：{method}；得分 {score}。",
    ),
    "ask.no_map": (
        "This model or method has no map of the image for this answer.",
        "这个模型或方法对该回答没有图片热图。",
    ),
    "ask.tokens": ("Words of the question that mattered:", "问题中起作用的词："),
    "ask.weights": ("Shares of what was joined", "各模态所占份额"),
    "ask.method": ("How to explain", "解释方法"),
    # Explore
    "explore.path": ("Table (a file or folder); empty: the model's own", "表格（文件或文件夹）；留空：模型自己的表格"),
    "explore.open": ("Open", "打开"),
    "explore.split": ("Split", "划分"),
    "split.all": ("all", "全部"),
    "explore.column": ("Column", "列"),
    "explore.value": ("Value", "值"),
    "explore.text": ("Words", "文字"),
    "explore.text_hint": ("red bus", "红色公交车"),
    "explore.filter": ("Filter", "筛选"),
    "explore.worst": ("Worst mistakes", "最严重的错误"),
    "explore.search": ("Search by words", "按文字搜索"),
    "explore.by_image": ("Search by an image", "按图片搜索"),
    "explore.sample": ("Drop an image to find what looks like it", "拖入一张图片，查找相似的图片"),
    "explore.before": ("Previous page", "上一页"),
    "explore.after": ("Next page", "下一页"),
    "explore.empty": (
        "Open a table to see its rows with their images.",
        "打开一个表格，查看各行及其图片。",
    ),
    "explore.rows": ("{name}: {count} rows.", "{name}：{count} 行。"),
    "explore.judged": (
        "{count} rows judged, {wrong} of them wrong; the surest mistakes first.",
        "评判了 {count} 行，其中错误 {wrong} 行；最有把握的错误在前。",
    ),
    "explore.found": (
        "{count} rows hold all these words, the most telling first.",
        "{count} 行包含全部文字，最相关的在前。",
    ),
    "explore.nearest": ("{count} rows, those nearest to the words first.", "{count} 行，与文字最接近的在前。"),
    "explore.alike": ("{count} rows, those most alike first.", "{count} 行，最相似的在前。"),
    "explore.page": ("Page {page} of {pages}.", "第 {page} 页，共 {pages} 页。"),
    "explore.row": ("row {row} · {split}", "第 {row} 行 · {split}"),
    "explore.right": ("✓ {told}", "✓ {told}"),
    "explore.wrong": ("✗ {told} (true: {truth})", "✗ {told}（应为：{truth}）"),
    "explore.told": ("the model said", "模型的回答"),
    "explore.no_image": ("no image", "没有图片"),
    "explore.image_of": ("image of row {row}", "第 {row} 行的图片"),
    # Train
    "train.path": ("Table (a file or folder)", "表格（文件或文件夹）"),
    "train.file": ("or drop a table file (kept with the Run)", "或拖入表格文件（与 Run 一同保存）"),
    "train.look": ("Look at the table", "查看表格"),
    "train.tasks": ("Tasks; empty: from the columns", "任务；留空：由列推断"),
    "train.fusion": ("Way of joining", "融合方式"),
    "train.minutes": ("Minutes", "分钟数"),
    "train.out": ("Run folder; empty: a new one", "Run 文件夹；留空：新建"),
    "train.more": ("More settings, KEY=VALUE, one a line", "其他设置，KEY=VALUE，每行一个"),
    "train.more_hint": ("train.steps=500", "train.steps=500"),
    "train.estimate": ("Estimate", "估计"),
    "train.start": ("Start", "开始"),
    "train.stop": ("Stop", "停止"),
    "train.resume": ("Resume", "继续"),
    "train.watch": ("Watch", "观察"),
    "train.empty": (
        "Name a table, or drop one, and look at it. A training goes on when you close this page, and even when the "
        "Studio ends.",
        "填写或拖入一个表格，先查看。关闭此页面，甚至工作室退出，训练都会继续。",
    ),
    "train.table": ("{name}: {rows} rows, {columns} columns", "{name}：{rows} 行，{columns} 列"),
    "train.columns": ("Columns, as they are understood", "对各列的理解"),
    "train.column": ("column", "列"),
    "train.kind": ("kind", "类型"),
    "train.role": ("read by", "用途"),
    "train.blank": ("empty", "空值"),
    "train.sample": ("first value", "首个值"),
    "train.good": ("Ready to train.", "可以训练。"),
    "train.bad": ("{count} bad rows; the first:", "{count} 行有问题；最前面的："),
    "train.no_task": (
        "No task was found from these columns: choose one above.",
        "未能从这些列推断出任务：请在上面选择。",
    ),
    "train.splits": ("Rows: {splits}", "行数：{splits}"),
    "train.parameters": ("parameters", "参数量"),
    "train.memory": ("memory", "内存"),
    "train.time": ("time", "时间"),
    "train.is_running": ("{folder} is being trained by process {owner}.", "进程 {owner} 正在训练 {folder}。"),
    "train.is_stopped": (
        "{folder} was stopped. Nothing is lost: press Resume to go on.",
        "{folder} 已停止。没有丢失任何内容：点按“继续”即可接着训练。",
    ),
    "train.is_finished": ("{folder} is finished.", "{folder} 已完成。"),
    "train.is_failed": ("{folder} could not go on.", "{folder} 无法继续。"),
    "train.is_none": ("{folder}: nothing was begun there yet.", "{folder}：尚未开始。"),
    "train.step": (
        "step {step}, {share}, {seconds} s, {rate} examples a second",
        "第 {step} 步，{share}，{seconds} 秒，每秒 {rate} 个样本",
    ),
    "train.steps": ("steps", "步"),
    "train.figures": ("Figures on held-out rows", "留出数据上的指标"),
    "train.value": ("value", "值"),
    "train.baseline": ("baseline", "基线"),
    "train.ask_it": ("Ask it", "向它提问"),
    "train.explore_it": ("See its mistakes", "查看它的错误"),
    "train.report": ("Open its report", "打开报告"),
    "train.loss": ("training loss", "训练损失"),
    "train.valid": ("validation, {name}", "验证，{name}"),
    "train.samples": ("What it says meanwhile", "训练中的回答"),
    "train.at": ("step {step}:", "第 {step} 步："),
    "train.log": ("What it printed", "输出"),
    # Compare
    "compare.folder": ("Folder of Runs; empty: all", "Run 所在文件夹；留空：全部"),
    "compare.look": ("Look", "查看"),
    "compare.runs": ("Runs", "Run"),
    "compare.empty": (
        "Choose a folder to see its Runs side by side, and what `rebus compare` found in it.",
        "选择文件夹，并排查看其中的 Run，以及 `rebus compare` 的结果。",
    ),
    "compare.none": ("There is no Run and no comparison there yet.", "那里还没有 Run，也没有对比结果。"),
    "compare.beside": ("Runs side by side", "并排对比"),
    "compare.caption": (
        "Figures on held-out rows with 95% intervals; the best of each row in bold",
        "留出数据上的指标及 95% 区间；每行最好的加粗",
    ),
    "compare.what": ("figure", "指标"),
    "compare.baseline": ("baseline {figure}", "基线 {figure}"),
    "compare.tasks": ("tasks", "任务"),
    "compare.fusion": ("way of joining", "融合方式"),
    "compare.towers": ("towers", "塔"),
    "compare.parameters": ("parameters", "参数量"),
    "compare.minutes": ("minutes of training", "训练分钟数"),
    "compare.steps": ("steps", "步数"),
    "compare.data": ("data", "数据"),
    "compare.seed": ("seed", "种子"),
    "compare.strategies": ("Strategies: {name}", "策略对比：{name}"),
    "compare.strategy": ("strategy", "策略"),
    "compare.interval": ("95% interval", "95% 区间"),
    "compare.gain": ("over {single}", "相对 {single}"),
    "compare.seconds": ("seconds", "秒"),
    "compare.plot": ("Strategies with their 95% intervals", "各策略及其 95% 区间"),
    # Flow
    "flow.text": ("Text", "文字"),
    "flow.go": ("Follow it", "追踪"),
    "flow.empty": (
        "Give an image, a text or both, and follow them through the model from pixels and letters to the answer.",
        "给出图片、文字或两者，看它们如何从像素和文字一步步变成回答。",
    ),
}


class StudioError(RebusError):
    """A mistake that the pages themselves notice, told in the page's language.

    Args:
        key: of the text: where, expected, found and what to do, between bars.
        values: for the gaps; one that is a key of a text stands for that text.
    """

    def __init__(self, key: str, **values: str) -> None:
        self.key, self.values = key, values
        super().__init__(*self.parts("en"))

    def parts(self, lang: str) -> list[str]:
        """The four parts in a language."""
        known = {name: say(lang, text) if text in WORDS else text for name, text in self.values.items()}
        return [part.format(**known) for part in say(lang, self.key).split("|")]


def say(lang: str, key: str, **values: object) -> str:
    """A text in a language, its gaps filled. Raises KeyError where there is no such text."""
    text = WORDS[key][LANGUAGES.index(lang)]
    return text.format(**values) if values else text
