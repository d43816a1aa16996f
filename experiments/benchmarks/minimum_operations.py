"""The algebraic minimum of one update of every algorithm, counted by hand: floating-point
operations of the matrix products that its objective cannot do without.

It is the objective's, not the code's:
- A network is evaluated once for each of its inputs under the same parameters, and several actions
  of one state share the state's part of the first layer.
- Gradients are taken where something learns from them: of the weights, of the units above the first
  layer, and of actions only where an actor or an encoder learns through them.
- Where the value of one critic is used, one is evaluated. A minimum or maximum needs all of them
  and their gradients, since which one counts differs from row to row.
- Of phases the last counts, of updates that alternate their mean, and with pretraining the frozen
  model's training does not.
- Only matrix products count, not those with a vector, as in `experiments.benchmarks.operations`; so
  Adam, averages, samples and temperatures do not, and neither does relabelling.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from offrl_jax.algorithms.common.behavior import LATENTS_PER_ACTION
from offrl_jax.networks.modules import MLP
from offrl_jax.types import InputError, Spec


def product(rows: int, inputs: int, outputs: int) -> float:
    """Of matrices (rows, inputs) and (inputs, outputs), or of one of them with the result's
    gradient."""
    return 2.0 * rows * inputs * outputs if min(rows, inputs, outputs) > 1 else 0.0


class Network:
    """Operations of a network of s, or of (s, a) at one or several actions a state."""

    def __init__(
        self, rows: int, state_size: int, action_size: int, hidden: Sequence[int], outputs: int = 1
    ):
        self.state = product(rows, state_size, hidden[0])  # the first layer's part of the states
        self.action = product(rows, action_size, hidden[0])  # or down from it to the actions
        self.deeper = sum(product(rows, *sizes) for sizes in pairwise((*hidden, outputs)))

    def forward(self, num_actions: int = 1) -> float:
        return self.state + self.further(num_actions)

    def further(self, num_actions: int = 1) -> float:
        """Forward at more actions of states where the network is evaluated already."""
        return num_actions * (self.action + self.deeper)

    def training(self, num_actions: int = 1) -> float:
        """Forward, back to the first layer's units, and the weights' gradients: for these the
        gradients of one state's units are added up first, so they cost what forward does."""
        return 2 * self.forward(num_actions) + num_actions * self.deeper

    def to_actions(self, num_actions: int = 1) -> float:
        """After forward, the gradients of the actions and of no weights."""
        return num_actions * (self.deeper + self.action)


def _of_state(config: Any, spec: Spec, network: MLP, outputs: int = 1) -> Network:
    return Network(config.batch_size, spec.observation_size, 0, network.hidden_sizes, outputs)


def _gaussian_actor(config: Any, spec: Spec) -> Network:
    return _of_state(config, spec, config.actor_network, 2 * spec.action_size)


def _mean_actor(config: Any, spec: Spec) -> Network:
    return _of_state(config, spec, config.actor_network, spec.action_size)


def _of_pair(config: Any, spec: Spec, network: MLP, outputs: int = 1) -> Network:
    sizes = spec.observation_size, spec.action_size
    return Network(config.batch_size, *sizes, network.hidden_sizes, outputs)


def _critic(config: Any, spec: Spec) -> Network:
    return _of_pair(config, spec, config.critic_network)


def bc(config: Any, spec: Spec) -> float:
    heads = 2 if config.policy == "gaussian" else 1
    return _of_state(config, spec, config.network, heads * spec.action_size).training()


def dqn(config: Any, spec: Spec) -> float:
    """Q(s, ·) learns; all heads of the target at s′ count, and those of the critic that choose."""
    critic = _of_state(config, spec, config.critic_network, config.num_quantiles * spec.action_size)
    return critic.training() + (1 + config.double) * critic.forward()


def bcq_discrete(config: Any, spec: Spec) -> float:
    """Q and imitation in one network; the target's imitation is not asked."""
    critic, target = (
        _of_state(config, spec, config.critic_network, heads * spec.action_size) for heads in (2, 1)
    )
    return critic.training() + critic.forward() + target.forward()


def soft_actor_critic(config: Any, spec: Spec, num_learned_actions: int = 1) -> float:
    """π(·|s) learns and π(·|s′) gives a′ to the target critics. The critics learn at some actions
    of s, the data's and a penalty's, and tell π of its own: one state part for all of these."""
    actor, critic = _gaussian_actor(config, spec), _critic(config, spec)
    several = config.backup in ("max_min", "min_max")
    targets = critic.forward(config.num_backup_actions if several else 1)
    learned = critic.training(num_learned_actions) + critic.further() + critic.to_actions()
    return actor.training() + actor.forward() + config.num_critics * (targets + learned)


def sac(config: Any, spec: Spec) -> float:
    """With DisCor, networks of the errors that learn at the data's actions, and targets at a′."""
    operations = soft_actor_critic(config, spec)
    if config.td_weighting == "discor":
        error = _of_pair(config, spec, config.error_network)
        operations += config.num_critics * (error.forward() + error.training())
    return operations


def qt_opt(config: Any, spec: Spec) -> float:
    """Q̄_1 at all actions of the cross-entropy method, Q̄_2 at the best, and the critic learns."""
    critic = _critic(config, spec)
    targets = critic.forward(config.num_rounds * config.num_samples) + critic.forward()
    return targets + critic.training()


def cql(config: Any, spec: Spec) -> float:
    """SAC's, with critics that learn at the penalty's actions too; drawing those is free."""
    num_sources = 3 if config.variant in ("h", "author_v2") else 1
    return soft_actor_critic(config, spec, 1 + num_sources * config.num_sampled_actions)


def edac(config: Any, spec: Spec) -> float:
    """SAC's, with critics that learn from g = ∇_a Q(s, a) at the data's actions.

    Backward, δ = ∂Q/∂(units) is what the TD loss needs too, where row b's has the factor c_b of
    its error: g takes one more product, from the first layer to the actions.

    With v = ∂(diversity)/∂g held fixed, the diversity's gradient is that of ⟨v, g⟩, the derivative
    of Q along v. ReLU's masks have no derivative, so it is the tangents t = ∂(units)/∂a · v, one
    forward pass from the actions' part of the first layer on, in products with the same δ. The
    weights' gradient of both losses together is Σ_b (c_b h_b + t_b) ⊗ δ_b, h being a layer's
    inputs, and costs what that of the TD loss alone does.
    """
    critic = _critic(config, spec)
    action_gradient, tangents = critic.action, critic.further()
    return soft_actor_critic(config, spec) + config.num_critics * (action_gradient + tangents)


def _twin_delayed(config: Any, spec: Spec, num_critics_of_actor: int) -> float:
    """The critics have stepped when the actor asks them, so its state part is another."""
    actor, critic = _mean_actor(config, spec), _critic(config, spec)
    critic_step = actor.forward() + config.num_critics * (critic.forward() + critic.training())
    of_actor = num_critics_of_actor * (critic.forward() + critic.to_actions())
    return critic_step + (actor.training() + of_actor) / config.policy_delay


def td3_bc(config: Any, spec: Spec) -> float:
    return _twin_delayed(config, spec, num_critics_of_actor=1)


def rebrac(config: Any, spec: Spec) -> float:
    return _twin_delayed(config, spec, num_critics_of_actor=config.num_critics)


def _cvae(config: Any, spec: Spec) -> tuple[float, Network]:
    """Operations of the model's training, and its decoder. The encoder learns through latents."""
    latent_size = LATENTS_PER_ACTION * spec.action_size
    encoder = _of_pair(config, spec, config.behavior_network, 2 * latent_size)
    rows, hidden_sizes = config.batch_size, config.behavior_network.hidden_sizes
    decoder = Network(rows, spec.observation_size, latent_size, hidden_sizes, spec.action_size)
    to_latents = decoder.action
    return encoder.training() + decoder.training() + to_latents, decoder


def bcq(config: Any, spec: Spec) -> float:
    """The model has stepped when it is sampled, and the critics when the perturbation asks Q_1."""
    critic = _critic(config, spec)
    perturbation = _of_pair(config, spec, config.actor_network, spec.action_size)
    fitting, decoder = _cvae(config, spec)
    num = config.num_target_actions
    candidates = decoder.forward(num) + perturbation.forward(num)
    critics = config.num_critics * (critic.forward(num) + critic.training())
    own = decoder.forward() + perturbation.training() + critic.forward() + critic.to_actions()
    return (config.num_behavior_steps == 0) * fitting + candidates + critics + own


def bear(config: Any, spec: Spec) -> float:
    """As BCQ, with samples of the model in the MMD and all critics asked at each of the actor's."""
    critic, actor = _critic(config, spec), _gaussian_actor(config, spec)
    if config.behavior == "cvae":
        fitting, behavior = _cvae(config, spec)
        samples = behavior.forward(config.num_mmd_samples)
    else:
        behavior = _of_state(config, spec, config.behavior_network, 2 * spec.action_size)
        fitting, samples = behavior.training(), behavior.forward()
    num = config.num_mmd_samples
    critics = critic.forward(config.num_target_actions) + critic.training()
    of_actor = critic.forward(num) + critic.to_actions(num)
    of_models = (config.num_behavior_steps == 0) * fitting + samples
    policies = actor.forward() + actor.training()
    return of_models + policies + config.num_critics * (critics + of_actor)


def brac(config: Any, spec: Spec) -> float:
    """SAC's, with the model of the data at s, and at s′ where the value pays there."""
    if config.divergence not in ("kl", "reverse_kl", "mmd"):
        raise InputError(f"the minimum of divergence={config.divergence} has not been counted")
    pays_at_next = config.variant == "v" and config.penalty_position == "next_state"
    return (
        soft_actor_critic(config, spec)
        + (1 + pays_at_next) * _gaussian_actor(config, spec).forward()
    )


def _cloning_actor(config: Any, spec: Spec) -> Network:
    tanh_mean = config.policy == "tanh_mean"
    return _mean_actor(config, spec) if tanh_mean else _gaussian_actor(config, spec)


def advantage_weighted(config: Any, spec: Spec) -> float:
    """AWAC's and CRR's: π(·|s) clones and gives the baseline's actions, whose values and Q(s, a)
    are those of the critics that learn."""
    actor, critic = _cloning_actor(config, spec), _critic(config, spec)
    num_baseline = 1 if config.baseline == "mode" else config.num_baseline_samples
    targets = critic.forward(config.num_target_actions)
    learned = critic.training() + critic.further(num_baseline)
    return actor.training() + actor.forward() + config.num_critics * (targets + learned)


def abm(config: Any, spec: Spec) -> float:
    """Actor and prior learn; the target policy is evaluated at s′ and, for the trust region, at s.
    The target critics are, at s′, and at s for the prior's actions and for its advantage."""
    actor, critic = _cloning_actor(config, spec), _critic(config, spec)
    num_at_state = config.num_baseline_samples
    if config.prior_weight == "advantage":
        num_at_state += 1 if config.baseline == "mode" else config.num_baseline_samples
        num_at_state += config.prior_advantage == "critic"
    targets = critic.forward(config.num_target_actions) + critic.forward(num_at_state)
    policies = 2 * actor.training() + 2 * actor.forward()
    return policies + config.num_critics * (targets + critic.training())


def iql(config: Any, spec: Spec) -> float:
    """V(s) for its own loss and, after its step, for the advantage; V(s′) after it; Q̄(s, a)."""
    value = _of_state(config, spec, config.value_network)
    critic = _critic(config, spec)
    critics = config.num_critics * (critic.forward() + critic.training())
    return value.training() + 2 * value.forward() + critics + _mean_actor(config, spec).training()


def awr(config: Any, spec: Spec) -> float:
    """MARWIL's, with the advantage under the value of the last relabelling."""
    return marwil(config, spec) + _of_state(config, spec, config.value_network).forward()


def marwil(config: Any, spec: Spec) -> float:
    value = _of_state(config, spec, config.value_network)
    return value.training() + _mean_actor(config, spec).training()


MINIMUM: dict[str, Callable[[Any, Spec], float]] = {
    "bc": bc,
    "sac": sac,
    "qt_opt": qt_opt,
    "bcq": bcq,
    "bear": bear,
    "brac": brac,
    "td3_bc": td3_bc,
    "rebrac": rebrac,
    "awr": awr,
    "awac": advantage_weighted,
    "crr": advantage_weighted,
    "abm": abm,
    "marwil": marwil,
    "iql": iql,
    "cql": cql,
    "edac": edac,
    "dqn": dqn,
    "bcq_discrete": bcq_discrete,
    "cql_discrete": dqn,
}
