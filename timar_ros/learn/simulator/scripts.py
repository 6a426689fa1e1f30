# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What people say: small talk, questions, stories and instructions from templates, by topic.

A template is text with slots in braces; each slot is filled with one of the words of the topic,
so that about fifty lines give thousands of sentences. Held-out topics share no slot word and no
story line with the others; short reactions ("I see") are common to all, as they are among people.
"""

import dataclasses
import re

import numpy as np

HELD_OUT_TOPICS = ('sailing', 'bakery')

# Topic -> slot -> words. Slots: thing, place, person, act (past tense), task (imperative).
_TOPICS = {
    'garden': {
        'thing': 'the tomatoes|the old apple tree|a row of beans|the roses|the compost|my shed',
        'place': 'behind the house|at the allotment|next to the fence|in the greenhouse',
        'person': 'my neighbour|my grandmother|the man next door|my sister Anna',
        'act': 'planted|watered|pulled out|moved|covered up',
        'task': 'loosen the soil|water it slowly|cut the lower leaves|cover it before frost',
    },
    'travel': {
        'thing': 'the night train|our luggage|a tiny hotel|the wrong ticket|my passport',
        'place': 'in Lisbon|at the border|near the station|on the coast|in the mountains',
        'person': 'the conductor|a friend of mine|my uncle|an old couple',
        'act': 'missed|found|forgot|booked|photographed',
        'task': 'book two weeks ahead|take the early bus|turn left at the bridge|ask for a map',
    },
    'work': {
        'thing': 'the report|the new printer|that meeting|the budget|my calendar|the big order',
        'place': 'in the office|on the third floor|at the warehouse|in the canteen',
        'person': 'my boss|the intern|somebody from sales|our accountant',
        'act': 'finished|lost|explained|rewrote|cancelled',
        'task': 'open the folder|save a copy|send it to Martin|check the numbers twice',
    },
    'music': {
        'thing': 'the cello|an old record|the choir|that song|a broken guitar|the piano',
        'place': 'in the church|at the concert|in my room|on the radio',
        'person': 'our teacher|the drummer|my cousin|a street musician',
        'act': 'heard|practised|repaired|sang|bought',
        'task': 'tune the low string|count to four|play it slowly|breathe before the phrase',
    },
    'health': {
        'thing': 'my knee|the new doctor|a long walk|the swimming pool|my sleep|the medicine',
        'place': 'at the clinic|in the park|at the gym|by the river',
        'person': 'the nurse|my trainer|my father|a colleague',
        'act': 'hurt|tried|skipped|noticed|changed',
        'task': 'bend your knees|drink some water|rest for a minute|keep your back straight',
    },
    'kitchen': {
        'thing': 'the soup|a pot of rice|the sharp knife|my oven|fresh noodles|the lemon cake',
        'place': 'on the stove|at the market|in the cupboard|at my mother\'s table',
        'person': 'my mother|the cook|our guests|little Tom',
        'act': 'burned|tasted|stirred|spilled|shared',
        'task': 'chop two onions|heat the pan|add a little salt|let it cook for an hour',
    },
    'computers': {
        'thing': 'my laptop|the update|a robot arm|the password|the camera|that program',
        'place': 'on the desk|in the lab|on the server|in the repair shop',
        'person': 'the technician|a student|my brother|the support line',
        'act': 'installed|deleted|restarted|tested|dropped',
        'task': 'press the green button|hold it for five seconds|plug in the cable|try again',
    },
    'animals': {
        'thing': 'the dog|a young cat|three chickens|the neighbour\'s horse|an owl|the hamster',
        'place': 'in the barn|under the sofa|in the field|on the roof',
        'person': 'the vet|my daughter|a farmer|the children',
        'act': 'fed|chased|adopted|brushed|carried',
        'task': 'hold out your hand|speak softly|fill the bowl|close the gate',
    },
    'sailing': {
        'thing': 'the mast|a torn sail|our anchor|the lifeboat|the harbour lights',
        'place': 'off the island|at the pier|in the fog|under the lighthouse',
        'person': 'the captain|a fisherman|the harbour master|my crew',
        'act': 'steered|raised|tied|patched|sighted',
        'task': 'let go of the rope|watch the wind|lower the boom|head for the buoy',
    },
    'bakery': {
        'thing': 'the sourdough|a tray of rolls|the flour|two hundred croissants|the delivery van',
        'place': 'in the back room|by the ovens|at the counter|on Baker Street',
        'person': 'the apprentice|our oldest customer|the miller|my aunt Rosa',
        'act': 'kneaded|weighed|delivered|wrapped|glazed',
        'task': 'dust the table|fold the dough|let it rise overnight|brush it with milk',
    },
}  # fmt: skip

_OPENINGS = (
    'So yesterday I {act} {thing} {place}.',
    'You will not believe what happened {place}.',
    'Well, {person} {act} {thing} last week.',
    'I wanted to tell you about {thing}.',
    'The other day I was {place} with {person}.',
    'It all started when {person} came over.',
)
_STORY = (
    'I had never seen anything like it.',
    'Then {person} came by and {act} {thing}.',
    'At first I thought it was just {thing}.',
    'And {thing} was still {place}, as if nothing had happened.',
    'It took us almost two hours.',
    'We had to wait {place} for quite a while.',
    'Everybody was talking about {thing}.',
    '{person} said it happens all the time.',
    'I honestly did not know what to do.',
    'So in the end we {act} it together.',
    'I still think about it when I am {place}.',
    'That was the best part of the whole day.',
    'Nobody had told me that before.',
    'It was much heavier than it looked.',
    'After that we left {thing} {place}.',
    'Next time I will ask {person} first.',
)
# A phrase that is not finished: level or rising at its end, no answer expected.
_UNFINISHED = (
    'and when we got there',
    'because {person} was late',
    'if you look at {thing}',
    'so I called {person}',
    'and while I was waiting {place}',
    'which is why {thing}',
    'and just before it got dark',
)
_QUESTIONS = (
    'Have you ever {act} {thing}?',
    'Did you see {thing} {place}?',
    'Do you know what {person} thinks about it?',
    'How do you like {thing}?',
    'What happened with {thing}?',
    'Were you {place} last weekend?',
    'Can you show me how it works?',
    'Is {person} still {place}?',
)
_ANSWERS = (
    'Yes, I {act} {thing} a month ago.',
    'No, not really.',
    'I think {person} did.',
    'It was fine, thank you.',
    'Only once, {place}.',
    'I would have to ask {person}.',
    'Yes, of course.',
    'To be honest, I have no idea.',
    'Last year we {act} {thing} {place}.',
    'Yes.',
    'No.',
    'Okay.',
    'Thursday.',
    'Two thousand five.',
    'In the morning.',
    'Four seven nine.',
)
_INSTRUCTIONS = (
    'First you {task}.',
    'Now {task}.',
    'After that, {task}.',
    'And then you just {task}.',
    'Be careful, and {task}.',
    'Finally, {task}.',
)
_SMALL_TALK = (
    'It is nice to see you again.',
    'How has your week been?',
    'The weather is lovely today.',
    'I am a little tired, to be honest.',
    'That sounds wonderful.',
    'I am glad you asked.',
    'Let us talk about {thing}.',
    'Thank you for coming.',
)
_REACTIONS = (
    'Oh, really?', 'That is interesting.', 'I see what you mean.', 'That makes sense.',
    'Good for you.', 'Oh no.', 'Well, that is life.', 'I did not expect that.',
)  # fmt: skip
BACKCHANNELS = ('mhm', 'yeah', 'uh huh', 'right', 'okay', 'I see')
LAUGHS = ('ha ha ha ha', 'he he he', 'ha ha ha ha ha ha')


@dataclasses.dataclass(frozen=True)
class Line:
    """
    One phrase and how it ends.

    Attributes:
        text: to be spoken, with punctuation.
        ending: 'fall' or 'dip' (low: a thought is complete, an answer is welcome), 'rise' (a
            question), 'level' (to be continued), 'plain', or as the last words of a turn do
            (`endings.ENDINGS`).
    """

    text: str
    ending: str


def topics(held_out: bool) -> list[str]:
    """Return the names of the topics that are kept for judging, or of the others."""
    return [name for name in _TOPICS if (name in HELD_OUT_TOPICS) == held_out]


def fill(template: str, topic: str, rng: np.random.Generator) -> str:
    """Fill the slots of a template with words of a topic; the first letter is a capital."""
    words = _TOPICS[topic]
    text = re.sub(r'{(\w+)}', lambda slot: rng.choice(words[slot[1]].split('|')), template)
    return text[:1].upper() + text[1:]


def write_turn(kind: str, topic: str, rng: np.random.Generator) -> list[Line]:
    """
    Write what one person says in one turn.

    Args:
        kind: 'story' (3 to 6 phrases), 'instructions' (3 or 4), 'question', 'answer', 'reaction'
            or 'small talk' (1 or 2 each).
        topic: of `topics`.
        rng: draws templates and words.

    Returns:
        The phrases in order. In stories and instructions about one in four is unfinished, so
        that a pause alone does not tell where an answer is expected.

    Raises:
        ValueError: there is no such kind.
    """
    lines = []
    if kind in ('story', 'instructions'):
        body = _STORY if kind == 'story' else _INSTRUCTIONS
        chosen = list(rng.choice(body, min(rng.integers(3, 7), len(body)), replace=False))
        if kind == 'story':
            chosen[0] = rng.choice(_OPENINGS)
        for i, template in enumerate(chosen):
            if i and rng.random() < 0.3:
                lines.append(Line(fill(rng.choice(_UNFINISHED), topic, rng) + ',', 'level'))
            lines.append(Line(fill(template, topic, rng), 'fall'))
        return lines
    templates = {
        'question': _QUESTIONS, 'answer': _ANSWERS, 'reaction': _REACTIONS,
        'small talk': _SMALL_TALK,
    }  # fmt: skip
    if kind not in templates:
        raise ValueError(f'kind must be story, instructions or {", ".join(templates)}, got {kind}')
    for template in rng.choice(templates[kind], rng.integers(1, 3), replace=False):
        text = fill(template, topic, rng)
        lines.append(Line(text, 'rise' if text.endswith('?') else 'fall'))
    return lines
