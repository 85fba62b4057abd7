"""What makes an update correct, rule by rule: how the code would break it, and the test that then fails.

`run.py` tries them all. docs/explanation/how-updates-stay-correct.md shows rules and tests, and
tests/test_mutations.py holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MUTATIONS", "Mutation"]


class Mutation(NamedTuple):
    """A rule, a change to the package that breaks it, and the test that must then fail.

    Attributes:
        rule: in words, as the documentation says it.
        file: below ``argus_core/``.
        old: stands there exactly once.
        new: what breaks the rule in its place.
        test: a node of pytest's, below ``tests/``.
    """

    rule: str
    file: str
    old: str
    new: str
    test: str


_BY_HAND = "steps/test_full_batch.py::test_every_subset_equals_the_loop_by_hand_to_1e_6"
_AMP_BY_HAND = "steps/test_full_batch.py::test_amp_alone_is_the_autocast_loop_to_the_last_bit"
_SCALER_BY_HAND = "steps/test_amp.py::test_float16_is_the_documented_scaler_loop_to_the_last_bit"
_SLOT_ORDER = "steps/test_update.py::test_an_update_goes_through_its_slots_in_the_documented_order"
_SAME_PRECISION = "steps/test_amp.py::test_training_validation_and_prediction_run_in_the_same_precision"
_RESUME = "training/test_exact_resume.py::test_every_update_is_that_of_the_run_which_was_not_interrupted"
_WAYS = "data/test_sample_reading.py::test_every_way_of_reading_gives_the_same_numbers"

MUTATIONS: Mapping[str, tuple[Mutation, ...]] = {
    "The whole window": (
        Mutation(
            "The loss is the one that `forward_loss` returns, whenever it was overridden.",
            "steps/update.py",
            'is_usual = criterion is not None and getattr(forward_loss, "__func__", None) is self._usual',
            "is_usual = criterion is not None",
            "steps/test_update.py::test_a_forward_loss_put_on_a_model_that_has_been_trained_counts",
        ),
        Mutation(
            "The same holds if no strategy shapes the update.",
            "steps/updater.py",
            '            and getattr(forward_loss, "__func__", None) is self._usual\n',
            "",
            "steps/test_update.py::test_a_forward_loss_put_on_a_model_that_has_been_trained_counts",
        ),
        Mutation(
            "Each micro-batch is weighted by its samples, not equally.",
            "steps/shares.py",
            "total = sum(weights)\n",
            "weights = [1 for _ in weights]\n    total = sum(weights)\n",
            _BY_HAND,
        ),
        Mutation(
            "The backward of a micro-batch starts from the micro-batch's share.",
            "steps/update.py",
            "loss.backward(share)",
            "loss.backward()",
            _BY_HAND,
        ),
        Mutation(
            "The loss of a window weights its micro-batches in the same way.",
            "steps/shares.py",
            "map(mul, map(float, compress(shares, shares)), compress(numbers, shares))",
            "[number / len(losses) for number in numbers]",
            _BY_HAND,
        ),
        Mutation(
            "A share does not change, even if a gradient is the tensor that backward starts from.",
            "steps/update.py",
            "                share = loss.new_full((), share)\n",
            "                share = vars(self).setdefault(share, loss.new_full((), share))\n",
            "steps/test_reduction.py::test_a_parameter_of_which_the_loss_holds_a_view_changes_no_share",
        ),
        Mutation(
            "A single batch left at the end of an epoch is not divided by the window's size.",
            "steps/update.py",
            "        self.micro_batches = self._prepared = [*prepared]\n",
            "        self.micro_batches = self._prepared = [*prepared]\n"
            "        self._shares = [1 / self.model.window_size()]\n",
            "steps/test_full_batch.py::test_a_batch_left_alone_counts_whole_where_strategies_shape_the_update",
        ),
        Mutation(
            "Several batches left at the end of an epoch are averaged over their own samples.",
            "steps/update.py",
            "self._shares[:] = shares(self._window_weights)",
            "divisor = max(1, self.model.window_size() / len(self._window_weights))\n"
            "        self._shares[:] = [each / divisor for each in shares(self._window_weights)]",
            "steps/test_full_batch.py::test_a_window_longer_than_the_epoch_is_the_epoch",
        ),
        Mutation(
            "The batches left at the end of an epoch make an update.",
            "training/windows.py",
            "while window := Window(islice(batches, size)):",
            "while len(window := Window(islice(batches, size))) == size:",
            "training/test_engine.py::test_a_window_is_complete_except_for_the_real_tail",
        ),
        Mutation(
            "A loss that sums takes no weight.",
            "steps/update.py",
            "if len(self.micro_batches) == 1 or self._is_sum:",
            "if len(self.micro_batches) == 1:",
            _BY_HAND,
        ),
        Mutation(
            "A mean over class weights counts by the weights of its targets.",
            "steps/reduction.py",
            "kept = weight[target.clamp(min=0, max=len(weight) - 1)] * not_ignored",
            "kept = not_ignored",
            "steps/test_reduction.py::test_class_weights_and_ignored_targets_add_up",
        ),
        Mutation(
            "Ignored targets have no weight.",
            "steps/reduction.py",
            "    return target != ignored",
            "    return torch.ones_like(target, dtype=torch.bool)",
            "steps/test_reduction.py::test_class_weights_and_ignored_targets_add_up",
        ),
        Mutation(
            "A few ignored targets have no weight, either.",
            "steps/reduction.py",
            '[*map(sub, counts, map(methodcaller("count", ignored), map(Tensor.tolist, targets)))]',
            "counts",
            "steps/test_reduction.py::test_a_micro_batch_with_nothing_but_ignored_targets_counts_nothing",
        ),
        Mutation(
            "Targets that are not ignored are counted among targets, not among samples.",
            "steps/reduction.py",
            "[*map(Tensor.numel, targets)]",
            "[*map(len, map(itemgetter(0), batches))]",
            "steps/test_reduction.py::test_targets_are_counted_where_they_are_more_than_the_samples",
        ),
        Mutation(
            "A micro-batch that has only ignored targets, whose mean is nan, adds nothing.",
            "steps/shares.py",
            "compress(numbers, shares)",
            "numbers",
            "steps/test_reduction.py::"
            "test_a_micro_batch_with_nothing_but_ignored_targets_leaves_the_reported_loss_alone",
        ),
        Mutation(
            "Such a micro-batch gives no gradient, even if the gradient of its mean is nan.",
            "steps/shares.py",
            "torch.where(there, gradient, torch.zeros_like(gradient))",
            "gradient",
            "steps/test_reduction.py::test_gradients_stay_finite_where_a_micro_batch_counts_nothing",
        ),
        Mutation(
            "A loss may declare the divisor of its mean.",
            "steps/reduction.py",
            "    if callable(declared):\n",
            "    if False:\n",
            "steps/test_reduction.py::test_a_loss_may_say_what_its_mean_divides_by",
        ),
        Mutation(
            "A loss derived from one of torch's counts by the mean that its own forward takes.",
            "steps/weights.py",
            "is_own = observe(loss, prediction, target, layout.place_in(target) if layout else 0)",
            "is_own = False",
            "steps/test_observed_mean.py::test_a_derived_loss_is_that_of_all_data_however_they_are_cut",
        ),
        Mutation(
            "A loss whose reduction changes in a run is observed again.",
            "steps/weights.py",
            "if form_of(self.known) != self._form:",
            "if False:",
            "steps/test_own_losses.py::test_a_reduction_that_changes_in_a_run_is_observed_again",
        ),
        Mutation(
            "A strategy may weigh micro-batches by something else, such as tokens.",
            "steps/updater.py",
            "model.build_weights(self.slots.micro_batch_weight)",
            "model.build_weights(None)",
            "steps/test_slots.py::test_another_weight_makes_a_mean_over_tokens_exact",
        ),
        Mutation(
            "A model may weigh micro-batches by something else.",
            "steps/weights.py",
            "own if own or _is(loss_weight, usual.loss_weight) else loss_weight",
            "own",
            "steps/test_slots.py::test_a_model_may_say_what_its_own_mean_divides_by",
        ),
        Mutation(
            "An empty batch, whose mean may be nan, does not go through the network.",
            "steps/update.py",
            "self.micro_batches = without_empty(micro_batches)",
            "self.micro_batches = micro_batches",
            "steps/test_update.py::test_an_empty_batch_does_not_go_through_the_network",
        ),
        Mutation(
            "Gradients are cleared before they are taken.",
            "steps/update.py",
            "        clear_gradients(optimizer)\n        micro_batches",
            "        micro_batches",
            _BY_HAND,
        ),
        Mutation(
            "Gradients are also cleared if no strategy shapes the update.",
            "steps/updater.py",
            "        clear_gradients(model.optimizer)\n",
            "",
            "steps/test_update.py::test_the_plain_form_of_an_update_equals_the_composed_one_to_the_bit",
        ),
        Mutation(
            "Processes exchange gradients only in the last micro-batch.",
            "steps/update.py",
            "index == len(micro_batches) - 1):",
            "True):",
            "steps/test_update.py::test_gradients_meet_in_the_last_micro_batch_alone",
        ),
        Mutation(
            "Forward runs inside the context that delays the exchange.",
            "steps/update.py",
            "index == len(micro_batches) - 1):\n                    self",
            "index == len(micro_batches) - 1):\n                    pass\n                self",
            _SLOT_ORDER,
        ),
    ),
    "Order of strategies": (
        Mutation(
            "The order in which strategies are listed changes nothing.",
            "steps/composition.py",
            "(self._default, *_ordered(chosen))",
            "(self._default, *chosen)",
            "steps/test_full_batch.py::test_the_listed_order_changes_no_bit",
        ),
        Mutation(
            "Values are clipped before the norm, so that both limits hold.",
            "steps/clip_grad_value.py",
            'runs_before = ("clip_grad_norm",)',
            "runs_before = ()",
            "steps/test_steps.py::test_values_are_clipped_before_the_norm_so_both_limits_hold",
        ),
        Mutation(
            "A slot that takes one owner never has two.",
            "steps/composition.py",
            "if len(owners) > 1:",
            "if False:",
            "steps/test_composition.py::test_two_owners_are_refused_when_the_model_is_built",
        ),
    ),
    "Clipping": (
        Mutation(
            "The clipped norm is that of the whole window, not of each micro-batch.",
            "steps/update.py",
            "            if keep is not None:\n",
            "            self.transform_gradients(self.parameters())\n            if keep is not None:\n",
            _BY_HAND,
        ),
        Mutation(
            "The clipped norm is that of all parameters together.",
            "steps/clip_grad_norm.py",
            "            torch.nn.utils.clip_grad_norm_(chosen, self.max_norm, self.norm_type)",
            "            for each in chosen:\n"
            "                torch.nn.utils.clip_grad_norm_(each, self.max_norm, self.norm_type)",
            _BY_HAND,
        ),
        Mutation(
            "Gradients are unscaled before they are clipped.",
            "steps/update.py",
            "        if self._slots.unscale is not None:\n",
            "        self.transform_gradients(self.parameters())\n"
            "        if self._slots.unscale is not None:\n",
            _SCALER_BY_HAND,
        ),
    ),
    "Mixed precision": (
        Mutation(
            "Autocast covers forward.",
            "steps/update.py",
            "            with forward_context():\n",
            "            if True:\n",
            _AMP_BY_HAND,
        ),
        Mutation(
            "Autocast covers the loss.",
            "steps/update.py",
            "                    loss = criterion(prediction, target)",
            "                    with torch.autocast(self.model.device.type, enabled=False):\n"
            "                        loss = criterion(prediction, target)",
            _AMP_BY_HAND,
        ),
        Mutation(
            "Autocast does not cover backward.",
            "steps/update.py",
            "                loss.backward(share)",
            "                with forward_context():\n                    loss.backward(share)",
            "steps/test_amp.py::test_the_default_backward_runs_out_of_autocast",
        ),
        Mutation(
            "Autocast inside autocast restores the outer state.",
            "steps/amp.py",
            "if around and around == (",
            "if True or around == (",
            "steps/test_amp.py::test_a_prediction_in_the_midst_of_a_forward_leaves_autocast_as_it_was",
        ),
        Mutation(
            "Validation runs in the precision of training.",
            "model/model.py",
            "            with updater.slots.forward_context():\n                prediction, target, loss",
            "            if True:\n                prediction, target, loss",
            _SAME_PRECISION,
        ),
        Mutation(
            "Prediction runs in the precision of training.",
            "model/model.py",
            "                with updater.slots.forward_context():\n                    prediction = self",
            "                if True:\n                    prediction = self",
            _SAME_PRECISION,
        ),
        Mutation(
            "Autocast is that of the model's device.",
            "steps/amp.py",
            "torch.autocast(model.device.type, self._autocast_dtype",
            'torch.autocast("cuda", self._autocast_dtype',
            _AMP_BY_HAND,
        ),
        Mutation(
            "The scaler is that of the model's device.",
            "steps/amp.py",
            "torch.amp.GradScaler(self._device_type, **self._scaling)",
            'torch.amp.GradScaler("cuda", **self._scaling)',
            _SCALER_BY_HAND,
        ),
    ),
    "Loss scaling": (
        Mutation(
            "Gradients are unscaled.",
            "steps/update.py",
            "            self._slots.unscale(optimizer)\n",
            "            pass\n",
            "steps/test_amp.py::test_strategies_see_gradients_after_unscaling",
        ),
        Mutation(
            "Gradients are unscaled once, not with each micro-batch.",
            "steps/update.py",
            "            if keep is not None:\n",
            "            if self._slots.unscale is not None and micro_batch is not micro_batches[-1]:\n"
            "                self._slots.unscale(self.model.optimizer)\n"
            "            if keep is not None:\n",
            "steps/test_amp.py::test_a_cut_window_is_scaled_as_a_whole",
        ),
        Mutation(
            "The scaler is updated after a step.",
            "steps/amp.py",
            "            self._scaler.step(optimizer)\n        self._update_scale()\n",
            "            self._scaler.step(optimizer)\n",
            "steps/test_amp.py::test_an_overflow_skips_the_update_and_the_next_ones_recover",
        ),
        Mutation(
            "The scaler is updated after a veto.",
            "steps/amp.py",
            "        if self._awaits_update:\n"
            "            self._update_scale()\n"
            "        self._overflowed = False",
            "        self._overflowed = False",
            "steps/test_amp.py::test_an_overflow_that_is_vetoed_backs_off",
        ),
        Mutation(
            "The scaler is updated each time gradients are taken in one update.",
            "steps/amp.py",
            "if self._awaits_update:  # gradients",
            "if False:  # gradients",
            "steps/test_amp.py::test_gradients_may_be_taken_several_times_in_one_update",
        ),
        Mutation(
            "A lower scale is the sign of a skipped step.",
            "steps/amp.py",
            "self._overflowed |= self._scaler.get_scale() < before",
            "self._overflowed |= self._scaler.get_scale() < 0 * before",
            "steps/test_amp.py::test_an_overflow_skips_the_update_and_the_next_ones_recover",
        ),
        Mutation(
            "A called step is not a sign of an update: a fused optimizer's step is always called.",
            "steps/amp.py",
            "            self._scaler.step(optimizer)\n"
            "        self._update_scale()\n"
            "        return not self._overflowed",
            "            called = []\n"
            "            watch = optimizer.register_step_post_hook(lambda *_: called.append(True))\n"
            "            self._scaler.step(optimizer)\n"
            "            watch.remove()\n"
            "        self._update_scale()\n"
            "        return bool(called)",
            "steps/test_amp.py::test_a_fused_optimizer_skips_overflowing_updates_too",
        ),
        Mutation(
            "An overflow in any of several gradients skips the update.",
            "steps/amp.py",
            "if not self._overflowed:  # in",
            "if True:  # in",
            "steps/test_amp.py::test_an_overflow_in_any_of_several_gradients_skips_the_update",
        ),
        Mutation(
            "An overflow does not outlast its update.",
            "steps/amp.py",
            "            self._update_scale()\n        self._overflowed = False",
            "            self._update_scale()",
            "steps/test_amp.py::test_an_overflow_skips_the_update_and_the_next_ones_recover",
        ),
        Mutation(
            "The scale is part of a checkpoint.",
            "steps/amp.py",
            "return self._state if self._scaler is None else self._scaler.state_dict()",
            "return self._state",
            "steps/test_amp.py::test_the_scale_survives_a_new_device_and_a_state_that_comes_before_set_up",
        ),
    ),
    "Skipped updates": (
        Mutation(
            "A scheduler that steps each update does not step for a skipped one.",
            "callbacks/cadence.py",
            " or step == self.last_step",
            "",
            "steps/test_slots.py::test_a_vetoed_update_leaves_weights_and_optimizer_alone_and_is_reported",
        ),
        Mutation(
            "A scheduler that steps each epoch does not step for one whose updates were all skipped.",
            "callbacks/lr_schedule.py",
            "if self.due.after_epoch(state.epoch) and self._stepped:",
            "if self.due.after_epoch(state.epoch):",
            "callbacks/test_lr_schedule.py::test_an_epoch_of_skipped_updates_does_not_step_a_scheduler",
        ),
        Mutation(
            "The average of the weights does not move.",
            "steps/ema.py",
            "        if not stepped:\n            return\n",
            "",
            "steps/test_ema.py::test_a_skipped_update_does_not_move_the_average",
        ),
        Mutation(
            "`global_step`, the count of updates, does not advance.",
            "training/engine.py",
            'if getattr(output, "stepped", True):',
            "if state.updates_skipped >= 0:",
            "steps/test_amp.py::test_an_overflow_skips_the_update_and_the_next_ones_recover",
        ),
        Mutation(
            "`update_skipped` is raised.",
            "training/engine.py",
            '                self.raise_event("update_skipped")\n',
            "",
            "steps/test_slots.py::test_a_vetoed_update_leaves_weights_and_optimizer_alone_and_is_reported",
        ),
        Mutation(
            "Strategies receive that the weights did not move.",
            "steps/update.py",
            "follow(self.model, stepped)",
            "follow(self.model, True)",
            "steps/test_slots.py::test_a_vetoed_update_leaves_weights_and_optimizer_alone_and_is_reported",
        ),
        Mutation(
            "Every strategy votes, also after a vote against the update.",
            "steps/update.py",
            "votes = [vote(self._loss, parameters) for vote in self._slots.allow_update]\n",
            "votes = [True]\n"
            "        for vote in self._slots.allow_update:\n"
            "            votes += [vote(self._loss, parameters)] if votes[-1] else []\n",
            "steps/test_slots.py::test_every_vote_is_asked_since_other_processes_may_wait_for_it",
        ),
        Mutation(
            "A vote of one process counts in all processes.",
            "steps/update.py",
            "return all(verdicts(votes, self.model.device))",
            "return all(map(bool, votes))",
            "steps/test_finite_guard.py::test_a_vote_of_one_process_counts_in_all",
        ),
        Mutation(
            "A vote sees the gradients as they would be applied.",
            "steps/update.py",
            "            self.transform_gradients(parameters)\n"
            "            if not self.allowed(parameters):\n"
            "                return False\n",
            "            if not self.allowed(parameters):\n"
            "                return False\n"
            "            self.transform_gradients(parameters)\n",
            "steps/test_slots.py::test_a_vote_sees_the_loss_and_the_clipped_gradients_of_the_window",
        ),
    ),
    "Updates that are not finite": (
        Mutation(
            "The decision for or against an update comes before the weights move.",
            "steps/update.py",
            "            if not self.allowed(parameters):\n"
            "                return False\n"
            "        return self.step()",
            "            stepped = self.step()\n"
            "            return self.allowed(parameters) and stepped\n"
            "        return self.step()",
            "steps/test_finite_guard.py::test_a_loss_that_is_not_finite_ends_the_run_before_the_weights_move",
        ),
        Mutation(
            "The loss is checked.",
            "steps/finite_guard.py",
            "vote = torch.isfinite(loss)",
            "vote = torch.ones_like(loss, dtype=torch.bool)",
            "steps/test_finite_guard.py::test_a_loss_that_is_not_finite_is_seen_though_the_gradients_are",
        ),
        Mutation(
            "The gradients are checked.",
            "steps/finite_guard.py",
            "if self._looks_at_gradients else None",
            "if False else None",
            "steps/test_finite_guard.py::test_a_gradient_that_is_not_finite_is_seen_though_the_loss_is",
        ),
        Mutation(
            "Gradients are checked before clipping, which makes an infinite one look like any other.",
            "steps/finite_guard.py",
            "@hookimpl(tryfirst=True)\n    def transform",
            "@hookimpl(trylast=True)\n    def transform",
            "steps/test_finite_guard.py::test_a_gradient_that_is_not_finite_is_seen_though_the_loss_is",
        ),
        Mutation(
            "Large finite gradients, whose squares overflow, pass.",
            "steps/finite_guard.py",
            "return nn.utils.get_total_norm(gradients, math.inf)",
            "return nn.utils.get_total_norm(gradients, 2.0)",
            "steps/test_finite_guard.py::test_a_sum_of_squares_that_would_overflow_is_finite",
        ),
        Mutation(
            "Under float16 infinite gradients are left to the scaler.",
            "steps/finite_guard.py",
            '"grad_scaler" not in model.step_traits()',
            "True",
            "steps/test_finite_guard.py::test_under_float16_infinite_gradients_are_the_scalers",
        ),
        Mutation(
            "All processes make the same decision.",
            "tensors/processes.py",
            "            vote.copy_(verdict)\n",
            "            pass\n",
            "steps/test_finite_guard.py::test_processes_decide_as_one",
        ),
        Mutation(
            "One process is enough to skip the update.",
            "tensors/processes.py",
            "distributed.all_reduce(found, distributed.ReduceOp.MIN)",
            "distributed.all_reduce(found, distributed.ReduceOp.MAX)",
            "steps/test_finite_guard.py::test_processes_decide_as_one",
        ),
        Mutation(
            "The run ends, unless skipping was chosen.",
            "steps/finite_guard.py",
            'policy: str = "raise"',
            'policy: str = "skip"',
            "steps/test_finite_guard.py::test_a_loss_that_is_not_finite_ends_the_run_before_the_weights_move",
        ),
        Mutation(
            "The number of updates skipped in a row is limited.",
            "steps/finite_guard.py",
            "if self._skipped > self.max_consecutive:",
            "if False:",
            "steps/test_finite_guard.py::test_too_many_skipped_in_a_row_are_an_error",
        ),
        Mutation(
            "An applied update resets that count.",
            "steps/finite_guard.py",
            "self._skipped = 0 if stepped else self._skipped + 1",
            "self._skipped += not stepped",
            "steps/test_finite_guard.py::test_too_many_skipped_in_a_row_are_an_error",
        ),
    ),
    "Closures": (
        Mutation(
            "Each evaluation goes through every micro-batch.",
            "steps/closure.py",
            "            # The optimizer begins",
            "            if not losses:\n"
            "                update.micro_batches = update.micro_batches[:1]\n"
            "            # The optimizer begins",
            "steps/test_closure.py::test_it_equals_the_loop_by_hand",
        ),
        Mutation(
            "Each evaluation takes new gradients at the current weights.",
            "steps/closure.py",
            "losses.pop() if losses else self._take(update)",
            "losses[0]",
            "steps/test_closure.py::test_it_equals_the_loop_by_hand",
        ),
        Mutation(
            "Each evaluation clips.",
            "steps/closure.py",
            "        update.transform_gradients(update.parameters())\n",
            "",
            "steps/test_closure.py::test_it_equals_the_loop_by_hand",
        ),
        Mutation(
            "The first evaluation is not repeated.",
            "steps/closure.py",
            "losses.pop() if losses else self._take(update)",
            "self._take(update)",
            "steps/test_closure.py::test_no_gradients_are_taken_in_vain",
        ),
        Mutation(
            "The step output, and so every metric, is that of the first evaluation.",
            "steps/update.py",
            "        if self._loss is None:\n            self._losses, self._loss",
            "        if True:\n            self._losses, self._loss",
            "steps/test_closure.py::test_the_output_is_that_of_the_first_gradients",
        ),
        Mutation(
            "A vote comes before the optimizer.",
            "steps/closure.py",
            "        if not update.allowed(update.parameters()):\n            return False\n",
            "",
            "steps/test_closure.py::test_a_vetoed_update_never_reaches_the_optimizer",
        ),
        Mutation(
            "A loss scaler, which steps without a closure, is refused.",
            "steps/closure.py",
            '        "grad_scaler": ',
            '        "no_such_trait": ',
            "steps/test_closure.py::test_bfloat16_goes_with_it_and_float16_is_refused_with_the_reason",
        ),
        Mutation(
            "An optimizer that needs a closure is refused if no strategy passes one.",
            "steps/composition.py",
            'if "needs_closure" in traits[_MODEL] and not',
            "if False and not",
            "steps/test_conflicts.py::test_an_optimizer_that_needs_a_closure_is_refused_where_nobody_hands_it_one",
        ),
    ),
    "Sharpness-aware minimisation": (
        Mutation(
            "The weights move by the second gradients.",
            "steps/sam.py",
            "            self._climb(parameters, engine)\n            update.gradients()\n",
            "            self._climb(parameters, engine)\n",
            "steps/test_sam.py::test_it_equals_its_formula_by_hand",
        ),
        Mutation(
            "The weights move from where they were, to the last bit.",
            "steps/sam.py",
            "tensor.copy_(value)",
            "tensor.sub_(tensor - value)",
            "steps/test_sam.py::test_a_vetoed_update_leaves_every_bit_of_the_weights",
        ),
        Mutation(
            "Buffers see the first pass only.",
            "steps/sam.py",
            "kept = [*parameters, *(buffer for _, module in modules for buffer in module.buffers())]",
            "kept = parameters",
            "steps/test_sam.py::test_running_statistics_see_the_first_pass_only",
        ),
        Mutation(
            "An error in the second pass restores the weights.",
            "steps/sam.py",
            "        finally:  # copies",
            "        except ZeroDivisionError:\n            raise\n        else:  # copies",
            "steps/test_sam.py::test_an_error_in_the_second_pass_puts_the_weights_back",
        ),
        Mutation(
            "A gradient of zeros does not become nan.",
            "steps/sam.py",
            "_TINY = 1e-12",
            "_TINY = 0.0",
            "steps/test_sam.py::test_a_gradient_of_zeros_moves_nothing_and_is_no_nan",
        ),
    ),
    "The average of the weights": (
        Mutation(
            "Prediction uses the average.",
            "model/model.py",
            "torch.no_grad(), self.evaluation():",
            "torch.no_grad():",
            "steps/test_ema.py::test_validation_prediction_and_a_single_val_step_use_the_average",
        ),
        Mutation(
            "Validation uses the average.",
            "model/model.py",
            "with torch.no_grad(), updater.evaluation.entered():",
            "with torch.no_grad():",
            "steps/test_ema.py::test_validation_prediction_and_a_single_val_step_use_the_average",
        ),
        Mutation(
            "The weights are restored when an evaluation fails.",
            "tensors/swapped.py",
            "    finally:\n",
            "    except ZeroDivisionError:\n        raise\n    else:\n",
            "steps/test_ema.py::test_a_failed_evaluation_puts_the_weights_back",
        ),
        Mutation(
            "Half-precision weights are averaged in float32.",
            "steps/ema.py",
            "return tensor.float() if _is_narrow(tensor) else tensor",
            "return tensor",
            "steps/test_ema.py::test_half_precision_weights_are_averaged_in_float32",
        ),
        Mutation(
            "Running statistics are the only buffers that are averaged.",
            "steps/ema.py",
            'return name.rpartition(".")[2] in _STATISTICS and buffer.is_floating_point()',
            "return buffer.is_floating_point()",
            "steps/test_ema.py::test_only_running_statistics_are_averaged_and_all_other_buffers_are_the_present_ones",
        ),
        Mutation(
            "A checkpoint holds the weights and their average.",
            "steps/ema.py",
            '"averages": dict(self._averages)} if self._updates else {}',
            '"averages": dict(self._averages)} if False else {}',
            "steps/test_ema.py::test_both_sets_are_saved_and_loaded",
        ),
        Mutation(
            "A checkpoint saved during a validation also holds the trained weights.",
            "steps/contexts.py",
            "        held = self.held\n",
            "        held = None\n",
            "steps/test_ema.py::test_what_is_saved_within_a_validation_has_the_trained_weights",
        ),
    ),
    "How the network runs": (
        Mutation(
            "A loss's own parameters are trained with the network's.",
            "steps/parameters.py",
            "named_parameters()) | loss_parameters(model)",
            "named_parameters())",
            "steps/test_loss_parameters.py::test_every_strategy_trains_them_like_parameters_of_the_network",
        ),
        Mutation(
            "A submodule keeps its mode through a validation.",
            "steps/modes.py",
            "            module.training = False\n",
            "            pass\n",
            "steps/test_modes.py::test_a_part_in_evaluation_mode_stays_there_through_training_and_validation",
        ),
        Mutation(
            "Compiling keeps the names in the state dict.",
            "steps/compile.py",
            "        module.compile(**self.options)\n",
            "        module = model.nn_module = torch.compile(module, **self.options)\n",
            "model/test_memory_layout.py::test_the_update_and_the_names_of_the_weights_stay_the_same",
        ),
        Mutation(
            "The compiled network is the one that runs.",
            "steps/compile.py",
            "            module.compile(**self.options)\n",
            "",
            "model/test_memory_layout.py::test_it_is_the_compiled_network_that_runs",
        ),
        Mutation(
            "Weights have their channels last.",
            "steps/channels_last.py",
            "parameter.data = _channels_last(parameter.data)",
            "pass",
            "model/test_memory_layout.py::test_weights_and_batches_have_their_channels_last",
        ),
        Mutation(
            "Batches have their channels last.",
            "steps/channels_last.py",
            "return deep_map(batch, _channels_last)",
            "return batch",
            "model/test_memory_layout.py::test_weights_and_batches_have_their_channels_last",
        ),
    ),
    "What is reported": (
        Mutation(
            "Metrics see the predictions of the whole window.",
            "steps/output.py",
            "[deep_detach(part[place]) for part in parts]",
            "[deep_detach(part[place]) for part in parts[place - 1 :]]",
            "steps/test_update.py::test_the_output_has_the_whole_window_in_its_order",
        ),
        Mutation(
            "Metrics see the targets of the whole window.",
            "steps/output.py",
            "[deep_detach(part[place]) for part in parts]",
            "[deep_detach(part[place]) for part in parts[-place:]]",
            "steps/test_update.py::test_the_output_has_the_whole_window_in_its_order",
        ),
        Mutation(
            "The loss of a window is the mean over its samples, undivided.",
            "steps/shares.py",
            "return first.new_full((), sum(numbers))",
            "return first.new_full((), sum(numbers) / len(numbers))",
            _BY_HAND,
        ),
        Mutation(
            "The reported loss is not scaled.",
            "steps/update.py",
            "                self._pass_back(",
            "                for scale in self._slots.scale_loss:\n"
            "                    loss = scale(loss)\n"
            "                self._pass_back(",
            "steps/test_amp.py::test_the_reported_loss_is_not_scaled",
        ),
        Mutation(
            "The loss of an epoch is weighted by the divisors of its windows.",
            "steps/update.py",
            "else sum(counts)",
            "else 1",
            "steps/test_update.py::test_the_logged_loss_is_the_mean_over_samples",
        ),
        Mutation(
            "A skipped update does not count in the loss and the metrics of its epoch.",
            "training/engine.py",
            'if getattr(output, "stepped", True):',
            "if True:",
            "steps/test_epoch_loss.py::test_skipped_updates_are_left_out_of_losses_and_metrics_and_counted_apart",
        ),
        Mutation(
            "Metrics drop the parts of an update that was not applied.",
            "steps/reading.py",
            "                metric.load_state_dict(state)",
            "                metric.state_dict()",
            "steps/test_reading.py::test_an_update_that_is_made_again_with_less_memory_counts_each_part_once",
        ),
        Mutation(
            "A prediction that nothing reads is not kept.",
            "steps/update.py",
            "if reading is None or len(self.micro_batches) == 1 or reading.needs_parts():",
            "if True:",
            "steps/test_reading.py::test_with_built_in_callbacks_one_prediction_is_kept_at_a_time",
        ),
        Mutation(
            "A list of images is cut between images.",
            "tensors/batch.py",
            "if dim == ENTRIES or (not declared and is_list_of_samples(value, samples, batch)):",
            "if False:",
            "steps/test_epoch_loss.py::test_lists_of_images_count_and_are_cut_by_image",
        ),
        Mutation(
            "The metric `loss` weighs by samples.",
            "metrics/builtin.py",
            "self.total += loss if is_sum else loss * weight\n            self.count += weight",
            "self.total += loss\n            self.count += 1",
            "metrics/test_metrics.py::test_loss_is_weighted_by_samples",
        ),
        Mutation(
            "`prediction_transform` runs outside the graph.",
            "model/model.py",
            "        with torch.no_grad():\n            for finish in",
            "        with torch.enable_grad():\n            for finish in",
            "steps/test_update.py::test_the_transform_runs_once_outside_the_graph_on_the_whole_window",
        ),
        Mutation(
            "Predictions are in float32 under `amp`.",
            "steps/amp.py",
            "return deep_map(prediction, self._widened)",
            "return prediction",
            "steps/test_amp.py::test_predictions_are_in_float32",
        ),
        Mutation(
            "Predictions are detached from the graph.",
            "steps/output.py",
            "return deep_detach(parts[0][place])",
            "return parts[0][place]",
            "steps/test_update.py::test_nothing_of_the_output_is_on_the_graph",
        ),
        Mutation(
            "Validation computes no gradients.",
            "model/model.py",
            "with torch.no_grad(), updater.evaluation.entered():",
            "with updater.evaluation.entered():",
            "model/test_model.py::test_val_step_builds_no_graph",
        ),
    ),
    "Batches": (
        Mutation(
            "`deep_to` keeps the type of a namedtuple.",
            "tensors/batch.py",
            "return type(value)(*map(change, value))",
            "return tuple(map(change, value))",
            "tensors/test_batch.py::test_deep_to_converts_every_tensor_and_keeps_every_container",
        ),
        Mutation(
            "`deep_detach` keeps the type of a namedtuple.",
            "tensors/batch.py",
            "    return _rebuild(value, deep_detach)",
            "    value = tuple(value) if is_namedtuple(value) else value\n"
            "    return _rebuild(value, deep_detach)",
            "tensors/test_batch.py::test_deep_detach_keeps_every_container",
        ),
        Mutation(
            "`deep_chunk` keeps the type of a namedtuple.",
            "tensors/batch.py",
            "return type(value)(*entries) if is_namedtuple(value) else type(value)(entries)",
            "return tuple(entries) if is_namedtuple(value) else type(value)(entries)",
            "tensors/test_batch.py::test_deep_chunk_keeps_every_container",
        ),
        Mutation(
            "A window's predictions keep the type of a namedtuple.",
            "tensors/joining.py",
            "return type(first)(*entries) if named else type(first)(entries)",
            "return tuple(entries) if named else type(first)(entries)",
            "tensors/test_batch.py::test_deep_cat_joins_tensors_within_their_containers",
        ),
        Mutation(
            "Tuples stay tuples.",
            "tensors/batch.py",
            "return type(value)(map(change, value))",
            "return list(map(change, value))",
            "tensors/test_batch.py::test_deep_detach_keeps_every_container",
        ),
        Mutation(
            "The usual batch keeps its type, too.",
            "tensors/batch.py",
            "return type(value)([deep_to(item, *args, **kwargs) for item in value])",
            "return [deep_to(item, *args, **kwargs) for item in value]",
            "tensors/test_batch.py::test_deep_to_converts_every_tensor_and_keeps_every_container",
        ),
    ),
    "Data": (
        Mutation(
            "A sample's random numbers follow from its position in the epoch's order.",
            "data/reading.py",
            "        seeds = _seeds(key, chosen.position, max(1, len(indices)))",
            "        seeds = _seeds(key, 0, max(1, len(indices)))",
            "data/test_sample_reading.py::test_the_size_of_a_batch_changes_no_numbers",
        ),
        Mutation(
            "They follow from the phase, too.",
            "data/reading.py",
            "self._key = seed, phase",
            'self._key = seed, "train"',
            "data/test_sample_reading.py::test_seeds_phases_and_epochs_have_numbers_of_their_own",
        ),
        Mutation(
            "They follow from the epoch, too.",
            "data/reading.py",
            "key = key_seed(*self._key, chosen.epoch)",
            "key = key_seed(*self._key)",
            "data/test_sample_reading.py::test_seeds_phases_and_epochs_have_numbers_of_their_own",
        ),
        Mutation(
            "A `collate_fn` has random numbers of its own.",
            "data/reading.py",
            "                source.seed(seed)\n        return",
            "                continue\n        return",
            "data/test_sample_reading.py::test_a_collation_that_draws_has_its_own_numbers_in_every_way",
        ),
        Mutation(
            "A batch that draws from a generator for the first time is read again.",
            "data/reading.py",
            "is_read = not draws.learn()",
            "is_read = True or draws.learn()",
            _WAYS,
        ),
        Mutation(
            "A dataset that changes as it is read is not read twice.",
            "data/draws.py",
            "if after.is_whole and not changed:",
            "if after.is_whole:",
            "data/test_sample_reading.py::test_a_dataset_that_counts_is_never_read_twice",
        ),
        Mutation(
            "The run's generators are restored after each batch.",
            "data/reading.py",
            "            draws.restore(is_read)",
            "            pass",
            "data/test_sample_reading.py::test_reading_leaves_the_generators_of_the_process_as_they_are",
        ),
        Mutation(
            "A generator in a class is found.",
            "data/holdings.py",
            "for name, each in of_class(kind))",
            "for name, each in ())",
            "data/test_holdings.py::test_generators_are_found_beyond_attributes",
        ),
        Mutation(
            "A generator in slots is found.",
            "data/holdings.py",
            "    yield from of_slots(value)\n",
            "",
            "data/test_holdings.py::test_generators_are_found_beyond_attributes",
        ),
        Mutation(
            "A count in an array is seen as a change.",
            "data/holdings.py",
            "return zlib.crc32(value.tobytes()) if is_compared else 0",
            "return 0",
            "data/test_holdings.py::test_changes_are_seen",
        ),
        Mutation(
            "Samplers side by side draw independently of each other.",
            "data/epoch_order.py",
            "key = (seed, epoch, number) if number else (seed, epoch)",
            "key = (seed, epoch)",
            "data/test_order.py::test_samplers_side_by_side_draw_independently_of_each_other",
        ),
        Mutation(
            "An order that is read as the epoch proceeds does not depend on what the run draws meanwhile.",
            "data/epoch_order.py",
            "            for source, state in zip(sources, states, strict=True):\n"
            "                source.put(state)\n",
            "",
            "data/test_epoch_order.py::test_what_the_run_draws_meanwhile_changes_no_order_and_the_order_changes_nothing",
        ),
        Mutation(
            "A resumed epoch skips the batches that the run has had.",
            "data/epoch_order.py",
            "            batches = self._indices(epoch, skip)",
            "            batches = self._indices(epoch)",
            _RESUME,
        ),
        Mutation(
            "Its samples keep their positions.",
            "data/epoch_order.py",
            "            position = sum(map(len, islice(batches, skip)))",
            "            position = len(list(islice(batches, skip)))",
            _RESUME,
        ),
        Mutation(
            "An order that its own check would change starts the epoch over.",
            "data/epoch_order.py",
            "range(1 if self._is_of_torch else 2)",
            "range(1)",
            "data/test_epoch_order.py::test_an_order_that_the_check_of_its_fingerprint_changes_is_not_that_of_before",
        ),
        Mutation(
            "Samples that are batches are not collated again.",
            "data/reading.py",
            "        samples = samples if self._is_batched else samples[0]\n",
            "",
            _RESUME,
        ),
        Mutation(
            "Workers of a stream draw different numbers.",
            "data/streams.py",
            'of_worker = key_seed(*key, "worker", 0 if info is None else info.id)',
            'of_worker = key_seed(*key, "worker", 0)',
            "data/test_streams.py::test_an_epochs_numbers_follow_from_seed_phase_epoch_and_worker",
        ),
        Mutation(
            "A stream does not move the run's random numbers.",
            "data/streams.py",
            "            states = [source.get() for source in sources]\n"
            "        finally:\n"
            "            for source in sources:\n"
            "                source.restore()",
            "            states = [source.get() for source in sources]\n        finally:\n            pass",
            "data/test_streams.py::test_the_runs_own_random_numbers_do_not_change",
        ),
        Mutation(
            "Batches in memory do not share the dataset's memory.",
            "data/memory.py",
            "    return tensor.index_select(0, index if tensor.is_cpu else index.to(tensor.device))",
            "    first, last = int(index[0]), int(index[-1]) + 1\n"
            "    return tensor[first:last] if last - first == len(index) else tensor[index]",
            "data/test_in_memory.py::test_batches_do_not_share_memory_with_the_dataset",
        ),
        Mutation(
            "A StopIteration in a worker does not end an epoch in silence.",
            "data/lost_workers.py",
            'if not str(end).startswith("Caught StopIteration"):',
            "if end is not None:",
            "data/test_failures.py::test_a_worker_init_fn_that_raises_stop_iteration_does_not_end_the_epoch_in_silence",
        ),
        Mutation(
            "Workers end with the run.",
            "data/order.py",
            "            loader.end_workers()",
            "            pass",
            "data/test_workers.py::test_workers_end_with_the_run_or_the_validation",
        ),
        Mutation(
            "Beyond a wrong length of the loader, validations keep their cadence.",
            "training/validation_schedule.py",
            "length <= done < length + engine.window_size",
            "length <= done",
            "training/test_validation_schedule.py::test_validation_keeps_its_cadence_beyond_a_wrong_length_and_a_stop_there_is_resumed_exactly",
        ),
        Mutation(
            "A run that stops there is resumed in the same epoch.",
            "training/engine.py",
            "if length is None or done >= length + self.window_size:",
            "if length is None:",
            "training/test_validation_schedule.py::test_validation_keeps_its_cadence_beyond_a_wrong_length_and_a_stop_there_is_resumed_exactly",
        ),
    ),
}
