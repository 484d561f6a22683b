"""`emp finetune`: one adaptation with its verdicts, and the ablation of all ways to adapt."""
