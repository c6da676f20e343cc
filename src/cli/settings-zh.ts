/** The table of settings in Chinese, for docs/zh-CN/parameters.md: most readers of the original read Chinese. */

import type { Group } from "../settings/setting-kinds.js";
import type { SettingName } from "../settings/settings.js";

interface ChineseSetting {
  readonly help: string;
  /** What holds where neither the user nor the recipe gives a value; for settings without a default. */
  readonly unset?: string;
}

export const chineseGroups: Readonly<Record<Group, string>> = {
  data: "数据",
  pictures: "图像",
  network: "网络",
  learning: "学习",
  run: "运行",
  ranks: "多进程",
};

export const chineseUnits: Readonly<Record<string, string>> = {
  px: "像素",
  images: "张图像",
  files: "个文件",
  records: "条记录",
  epochs: "轮",
  steps: "步",
  checkpoints: "个检查点",
  threads: "个线程",
  processes: "个进程",
  shards: "个分片",
  seconds: "秒",
  evaluations: "次评估",
};

export const chineseSettings: Readonly<Record<SettingName, ChineseSetting>> = {
  data_dir: {
    help: "数据所在目录：图像目录 train/<类别>/* 与 val/<类别>/*，或 <类别>/*；TFRecord 分片目录 train_shards/ 与 val_shards/，或文件名中写明所属部分的分片；也可以是 .npz 文件",
    unset: "必须给出",
  },
  train_data_dir: {
    help: "单独指定训练图像或分片的目录，代替 --data_dir 中的训练部分",
    unset: "取自 data_dir",
  },
  eval_data_dir: {
    help: "单独指定验证图像或分片的目录，代替 --data_dir 中的验证部分",
    unset: "取自 data_dir",
  },
  synthetic: { help: "用生成的噪声图像代替数据：用于测速，不需要 --data_dir" },
  train_dataset_size: {
    help: "使用多少张训练图像，在整个数据集中均匀选取；超过实际数量则拒绝运行",
    unset: "全部；--synthetic 时为 1281144",
  },
  eval_dataset_size: {
    help: "使用多少张验证图像，在整个数据集中均匀选取；超过实际数量则拒绝运行",
    unset: "全部；--synthetic 时没有验证集",
  },
  val_split: {
    help: "数据没有验证或测试部分时，每个类别留出、不参与训练而用于评估的比例；0 表示不留出",
    unset: "数据没有验证或测试部分时为 0.2",
  },
  split: {
    help: "评估哪一部分：验证部分或留出的图像、测试部分；只有写明 train 时才评估训练过的图像",
    unset: "validation；没有时为 test",
  },
  num_classes: { help: "网络的输出个数，不得少于数据的类别数", unset: "数据的类别数" },
  max_bad_images: { help: "允许跳过多少个无法解码的文件，超过则停止" },
  skip_bad_records: { help: "允许从记录集中剔除多少条损坏的记录，超过则拒绝使用该数据" },
  keys: {
    help: "他人制作的记录中各字段的名称：image=键,label=键；有标注框时再加 xmin=键,ymin=键,xmax=键,ymax=键",
    unset: "image、label、xmin 等，或 image/encoded、image/class/label、image/object/bbox/xmin 等",
  },
  label_offset: { help: "记录与 .npz 文件中第一个类别的标签；若从 1 开始编号，或 0 表示背景，则为 1" },
  cache: {
    help: "在预先缩小一次的图像（短边 256 像素）上训练：resized 存于磁盘，decoded 存于内存",
  },
  cache_dir: { help: "--cache resized 使用的目录", unset: "数据旁的 .riffle-cache，否则为用户的缓存目录" },
  shuffle: { help: "每一轮重新打乱顺序；false 则按文件顺序训练" },
  image_size: { help: "网络输入的高和宽" },
  grow_from: {
    help: "前若干轮训练图像的高和宽，较小因而较快；此后为 image_size",
    unset: "从第一步起即为 image_size",
  },
  grow_epochs: { help: "以 grow_from 的大小训练多少轮", unset: "给出 grow_from 时为 max_epochs 的一半" },
  augment: { help: "训练图像的增强方式" },
  crop_area_min: { help: "训练裁剪至少覆盖图像面积的比例" },
  flip: { help: "将一半的训练图像左右翻转" },
  exif_orientation: {
    help: "apply：按每张图像 EXIF 记录的拍摄方向转正；ignore：按存储的像素使用，与 TensorFlow 和 torchvision 的训练一致",
    unset: "评估和预测时与训练权重时相同；predict 使用外来权重时转正",
  },
  eval_resize: {
    help: "评估和预测时，中心裁剪之前图像短边的长度",
    unset: "image_size / eval_crop，四舍五入",
  },
  eval_crop: { help: "评估和预测时，中心裁剪占短边的比例" },
  variant: { help: "采用哪一家的 ShuffleNet V2：填充、批归一化和输入方式各不相同" },
  width: { help: "网络的宽度系数" },
  version: { help: "权重的初始化方式；原参数表把默认值误印为 he_uniorm，按 he_uniform 处理" },
  init_from: {
    help: "新训练的起始权重：训练目录、检查点或权重文件（safetensors、PyTorch、TensorFlow）；也可用名称，首次使用时下载：imagenet 即 torchvision/1.0x，另有 torchvision/0.5x、1.5x、2.0x",
    unset: "由随机种子生成",
  },
  offline: { help: "不下载以名称给出的权重，只用已保存在本机的文件" },
  recipe: {
    help: "一组命名的默认值，用于未给出的参数（npx riffle-vision help recipes）",
    unset: "给出 --init_from 时为 fine-tune，否则训练图像少于 100,000 张时为 small-set，其余为 documented",
  },
  batch_size: { help: "训练步中每个分片的图像数；未用 --shards 或多个进程时，一步只有一个分片" },
  lr: { help: "学习率的峰值" },
  classifier_rate: { help: "分类层的学习率，为其余各层学习率的倍数" },
  solve_classifier: {
    help: "与 --init_from 一起使用：权重中没有的分类层，在第一步之前由冻结网络的特征直接求解；false 则随机初始化，并以另外的学习率和更多的步数学习",
  },
  class_weights: {
    help: "balanced：各类别权重相同，不论图像多少，既用于训练步的损失，也用于分类层的求解；图像的损失乘以 图像总数 / (类别数 * 该类图像数)，平均为 1",
  },
  freeze: { help: "与 --init_from 一起使用：只学习分类层，其余各层不变；分类层由求解得到时不再训练" },
  batch_norm: {
    help: "训练时批归一化所用的统计量：每个批次自身的（batch），或权重所带的移动统计量，并保持不变；若与权重不符，则在第一步之前重新测量（moving）",
  },
  end_learning_rate: { help: "衰减结束时的学习率" },
  schedule: { help: "学习率从峰值下降的方式" },
  max_epochs: { help: "遍历训练图像的轮数" },
  max_train_steps: { help: "训练到这一步即停止；学习率仍按 max_epochs 变化", unset: "跑完所有轮" },
  budget: {
    help: "在给定时间内能训练多少轮就训练多少轮：90s、3m 或 1h30m，从命令开始算到报告写完；轮数由第一步之前实测的速度决定",
    unset: "按 max_epochs 训练",
  },
  mixup: {
    help: "mixup 的 alpha：一个批次的图像两两混合，标签按同样的比例混合，比例取自 Beta(alpha, alpha)；常用 0.2，0 表示不混合",
  },
  patience: { help: "连续多少次评估都不优于此前最佳时结束训练；0 表示跑完所有轮" },
  warmup_epochs: { help: "学习率升至峰值所用的轮数" },
  weight_decay: { help: "权重的 L2 惩罚系数" },
  weight_decay_on: {
    help: "哪些参数参与权重衰减：variant 与该网络原来的训练一致，matrices 为除批归一化和偏置以外的全部",
  },
  momentum: { help: "SGD 的动量" },
  nesterov: { help: "使用 Nesterov 动量" },
  label_smoothing: { help: "标签平滑：均匀分给所有类别的目标比例" },
  average_decay: { help: "权重滑动平均的衰减系数；0 表示不保留滑动平均" },
  seed: { help: "决定本次训练的全部随机数" },
  mode: {
    help: "train 只训练；train_and_evaluate 训练与评估交替进行；evaluate 评估检查点（与 riffle evaluate 相同）",
  },
  log_dir: { help: "训练输出目录：检查点、best/、events.jsonl、recipe.json" },
  log_name: {
    help: "log_dir 中纯文本日志的文件名，日志行与 TensorFlow 的写法一致：global_step/sec: 1.2，loss = 3.4, step = 10",
    unset: "不写",
  },
  report: {
    help: "训练结束时，或评估运行所留出的图像之后，在 log_dir 写入 report.html 与 model-card.md；训练结束时因此多做一次评估",
  },
  checkpoint_dir: {
    help: "评估该目录中最新的完整检查点：本系统的训练目录，或 TensorFlow 的检查点",
    unset: "log_dir",
  },
  resume: { help: "要继续的训练目录或检查点；结果与从未中断时逐位相同", unset: "开始新的训练" },
  do_checkpoint: { help: "是否写检查点；不写则无法继续训练、评估或使用" },
  checkpoint_format: {
    help: "tf 表示在自有格式之外同时写 TensorFlow 检查点（model.ckpt-N），仅限 tensorflow 网络",
  },
  save_checkpoints_steps: { help: "两次保存检查点之间的步数" },
  keep_checkpoint_max: { help: "除 best/ 外保留最新的检查点个数" },
  epochs_between_evals: { help: "两次在验证集上评估之间的轮数；最后一步总会评估" },
  eval_batch_size: { help: "评估或预测时每批的图像数；不影响结果" },
  log_steps: { help: "events.jsonl 中两行训练记录之间的步数" },
  iterations_per_loop: {
    help: "引擎一次调用所做的步数，各步的批次须同时放在内存中；日志行、进度和摘要都在一个循环结束时产生；不影响结果",
  },
  save_summary_steps: { help: "两次写 TensorBoard 摘要之间的步数；0 表示不写" },
  precision_mode: {
    help: "允许使用的数值格式：allow_mix_precision（以及 force_fp16）以 bf16 存储特征图，其余各模式以 f32 计算",
  },
  loss_scale: {
    help: "损失所乘的倍数，使梯度不致小于窄数值格式的范围：dynamic 自动寻找最大的倍数，fixed 保持不变，二者都跳过数值非有限的步；none 遇到这样的步即结束训练",
    unset: "混合精度时为 dynamic，f32 时为 none",
  },
  loss_scale_value: {
    help: "fixed 保持的倍数，也是 dynamic 的初始倍数",
    unset: "2^32，与原系统一致",
  },
  backend: {
    help: "引擎：native 是为本机编译的引擎，wasm 是同一引擎的 WebAssembly 版本（无需编译器，但慢数倍），reference 是纯 TypeScript 引擎（慢数百倍）",
    unset: "已编译则用 native，否则用 wasm",
  },
  threads: { help: "引擎的线程数；不影响结果", unset: "每个可用核心一个线程" },
  autotune: {
    help: "针对本机和本网络测量引擎任务的划分方式，只需一次、约数秒，较快者保存在用户缓存目录；不影响结果",
  },
  profiling: {
    help: "对若干步做性能剖析：各层耗时、roofline 图、所有线程与进程的时间线，写入 log_dir/profile；不影响结果",
  },
  profile_steps: {
    help: "--profiling 剖析哪些步，一步或一个区间：7、5-14",
    unset: "本次命令的第 5 至第 14 步；不足 10 步时为全部",
  },
  over_dump: {
    help: "损失或梯度出现非有限值时，指出最先出现的层和张量，并把全部张量的统计写入 log_dir/dump；不影响结果",
  },
  data_dump_flag: {
    help: "把某一步的图像、各层、logits、梯度和权重以 .npy 写入 log_dir/dump；不影响结果",
  },
  data_dump_step: {
    help: "--data_dump_flag 写哪些步：10、10|20、5-7",
    unset: "第 10 步；总步数不足时为最后一步",
  },
  rank_size: {
    help: "共同训练的进程数，须与实际启动的进程数（npx riffle-vision launch --ranks）一致，否则拒绝运行",
    unset: "实际启动的进程数",
  },
  shards: {
    help: "一个训练步由多少个大小为 batch_size 的分片组成；每个分片各自做批归一化，由各进程分担；逐位结果取决于分片数，与进程数无关",
    unset: "每个进程一个",
  },
  hcom_parallel: { help: "在其余梯度仍在计算时，就在机器之间交换已算出的梯度；不影响结果" },
  exchange: { help: "各进程如何把梯度相加：用同一台机器上共享的内存，或用消息；不影响结果" },
  bucket_size: { help: "每次交换的梯度大小；不影响结果" },
  sync_batch_norm: { help: "对所有分片的图像统一做批归一化；此时每个进程恰有一个分片" },
  rank_timeout: { help: "一个进程多久没有响应就结束训练并指出该进程" },
  enable_data_pre_proc: {
    help: "在训练步之前预先解码图像；false 则在前一批完成后才解码下一批；不影响结果",
  },
};
