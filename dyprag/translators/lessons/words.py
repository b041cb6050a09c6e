"""Words for the invented documents: closed vocabularies, whose members are answers, and parts of invented names.

Ours, for the recall benchmark; the paper has no such set. Every list is written by hand.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.replace("\n", " ").split(",") if word.strip())


CLOSED: dict[str, tuple[str, ...]] = {
    "profession": _words("""
        accountant, actor, actuary, anthropologist, archaeologist, architect, archivist, astronomer, baker, barber,
        beekeeper, biologist, blacksmith, bookbinder, botanist, brewer, bricklayer, butcher, carpenter, cartographer,
        chemist, cobbler, composer, conductor, cooper, courier, dancer, dentist, diplomat, diver, economist, editor,
        electrician, engraver, farmer, firefighter, fisherman, florist, gardener, geologist, glassblower, goldsmith,
        historian, illustrator, interpreter, jeweller, journalist, judge, lawyer, librarian, linguist, locksmith,
        magician, mathematician, mechanic, meteorologist, midwife, miller, miner, musicologist, notary, nurse,
        optician, painter, pharmacist, philosopher, photographer, physicist, pilot, plumber, poet, postman, potter,
        printer, psychologist, roofer, sailor, sculptor, shepherd, singer, surgeon, surveyor, tailor, tanner, teacher,
        translator, veterinarian, waiter, watchmaker, weaver, welder, zoologist"""),
    "city": _words("""
        Aberdeen, Accra, Addis Ababa, Adelaide, Algiers, Almaty, Amman, Amsterdam, Ankara, Antwerp, Asunción, Athens,
        Auckland, Baghdad, Baku, Baltimore, Bangkok, Barcelona, Basel, Beirut, Belfast, Belgrade, Bergen, Berlin,
        Bilbao, Birmingham, Bogotá, Bologna, Bordeaux, Boston, Brasília, Bratislava, Bremen, Brisbane, Bristol,
        Brussels, Bucharest, Budapest, Buenos Aires, Cairo, Calgary, Cape Town, Caracas, Cardiff, Casablanca, Chennai,
        Chicago, Cologne, Colombo, Copenhagen, Cork, Dakar, Dallas, Damascus, Denver, Detroit, Dhaka, Dresden, Dublin,
        Durban, Edinburgh, Florence, Frankfurt, Galway, Gdańsk, Geneva, Genoa, Ghent, Glasgow, Gothenburg, Graz,
        Guayaquil, Halifax, Hamburg, Hanoi, Harare, Havana, Helsinki, Hobart, Houston, Innsbruck, Istanbul, Izmir,
        Jakarta, Johannesburg, Kampala, Kathmandu, Kraków, Kyiv, Kyoto, Lagos, Lahore, Leeds, Leipzig, Lille, Lima,
        Lisbon, Liverpool, Ljubljana, London, Lusaka, Lyon, Madrid, Malmö, Manchester, Manila, Marseille, Melbourne,
        Memphis, Milan, Minsk, Montevideo, Montreal, Moscow, Mumbai, Munich, Nagoya, Nairobi, Nantes, Naples, Odesa,
        Osaka, Oslo, Ottawa, Palermo, Paris, Perth, Philadelphia, Plymouth, Porto, Prague, Quito, Reykjavik, Riga,
        Rome, Rotterdam, Salzburg, Santiago, Seattle, Seoul, Seville, Sheffield, Sofia, Stockholm, Strasbourg,
        Stuttgart, Sydney, Tallinn, Tbilisi, Tehran, Tokyo, Toronto, Toulouse, Trieste, Tunis, Turin, Utrecht,
        Valencia, Vancouver, Venice, Vienna, Vilnius, Warsaw, Wellington, Yerevan, Zagreb, Zurich"""),
    "country": _words("""
        Albania, Algeria, Argentina, Armenia, Australia, Austria, Bangladesh, Belgium, Bolivia, Brazil, Bulgaria,
        Cambodia, Cameroon, Canada, Chile, China, Colombia, Croatia, Cuba, Cyprus, Denmark, Ecuador, Egypt, Estonia,
        Ethiopia, Finland, France, Georgia, Germany, Ghana, Greece, Guatemala, Hungary, Iceland, India, Indonesia,
        Iran, Ireland, Israel, Italy, Jamaica, Japan, Jordan, Kenya, Latvia, Lebanon, Lithuania, Malaysia, Malta,
        Mexico, Mongolia, Morocco, Nepal, New Zealand, Nigeria, Norway, Pakistan, Peru, Poland, Portugal, Romania,
        Senegal, Serbia, Slovakia, Slovenia, South Africa, South Korea, Spain, Sri Lanka, Sweden, Switzerland,
        Tanzania, Thailand, Tunisia, Turkey, Uganda, Ukraine, Uruguay, Vietnam, Zambia"""),
    "colour": _words("""
        amber, beige, black, blue, brown, crimson, cream, gold, green, grey, indigo, ivory, lilac, magenta, maroon,
        mauve, navy blue, olive, orange, pink, purple, red, scarlet, silver, turquoise, violet, white, yellow"""),
    "animal": _words("""
        badger, bear, beaver, bison, buffalo, camel, cat, cheetah, cormorant, crane, crocodile, crow, deer, dolphin,
        donkey, dragonfly, eagle, elephant, falcon, ferret, flamingo, fox, frog, giraffe, goat, goose, gorilla, hare,
        hawk, hedgehog, heron, hippopotamus, jaguar, kangaroo, kingfisher, leopard, lion, lizard, llama, lynx, magpie,
        mole, moose, octopus, otter, owl, parrot, peacock, pelican, penguin, pheasant, porcupine, rabbit, raven,
        reindeer, salamander, salmon, seal, shark, sparrow, squirrel, stork, swan, tiger, tortoise, turtle, walrus,
        whale, wolf, woodpecker, zebra"""),
    "instrument": _words("""
        accordion, balalaika, banjo, bassoon, bugle, cello, clarinet, double bass, dulcimer, fiddle, flute, guitar,
        harmonica, harp, harpsichord, lute, mandolin, marimba, oboe, organ, piano, piccolo, recorder, saxophone, sitar,
        tambourine, trombone, trumpet, tuba, ukulele, viola, violin, xylophone, zither"""),
    "material": _words("""
        bamboo, brick, canvas, clay, concrete, cork, cotton, felt, flint, glass, granite, leather, limestone, linen,
        marble, paper, plastic, porcelain, rubber, sandstone, silk, slate, straw, velvet, wax, wicker, wool"""),
    "month": _words("""
        January, February, March, April, May, June, July, August, September, October, November, December"""),
    "weekday": _words("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "sport": _words("""
        archery, badminton, baseball, basketball, biathlon, bowls, boxing, climbing, cricket, croquet, curling, cycling,
        fencing, football, golf, gymnastics, handball, hockey, judo, karate, lacrosse, netball, polo, rowing, rugby,
        sailing, skating, skiing, squash, swimming, table tennis, tennis, volleyball, water polo, wrestling"""),
    "dish": _words("""
        apple pie, baked trout, beef stew, borscht, cheese fondue, chicken curry, couscous, dumplings, eel pie,
        fish soup, fried squid, goulash, grilled sardines, gumbo, haggis, hummus, kebab, lamb stew, lasagne,
        lentil soup, lobster bisque, meatballs, moussaka, mushroom risotto, onion soup, paella, pancakes, pea soup,
        pheasant pie, pickled herring, pizza, polenta, potato salad, pumpkin soup, ramen, ratatouille, ravioli,
        roast duck, schnitzel, smoked salmon, spaghetti, stuffed peppers, sushi, tacos, tripe, venison, waffles"""),
    "fruit": _words("""
        apples, apricots, bananas, blackberries, blueberries, cherries, cranberries, currants, dates, figs,
        gooseberries, grapes, lemons, limes, mangoes, melons, oranges, papayas, peaches, pears, pineapples, plums,
        quinces, raspberries, strawberries, tangerines"""),
    "cargo": _words("""
        barley, bricks, cement, coal, cocoa, coffee, copra, flour, furniture, grain, jute, maize, oats, olive oil,
        pepper, phosphate, potatoes, rice, salt, spices, sugar, sulphur, tea, timber, tobacco, wheat, whisky, wine"""),
    "language": _words("""
        Albanian, Arabic, Armenian, Basque, Bengali, Breton, Bulgarian, Catalan, Croatian, Czech, Danish, Dutch,
        English, Estonian, Finnish, French, Gaelic, Galician, Georgian, German, Greek, Hebrew, Hindi, Hungarian,
        Icelandic, Italian, Japanese, Korean, Latin, Latvian, Lithuanian, Maltese, Mandarin, Norwegian, Persian, Polish,
        Portuguese, Romanian, Russian, Serbian, Slovak, Spanish, Swahili, Swedish, Tamil, Thai, Turkish, Ukrainian,
        Urdu, Vietnamese, Welsh, Yiddish"""),
    "study": _words("""
        agriculture, algebra, anatomy, anthropology, archaeology, architecture, astronomy, biochemistry, biology,
        botany, chemistry, dentistry, economics, electronics, ethics, forestry, genetics, geography, geology, geometry,
        history, hydrology, journalism, law, linguistics, logic, mathematics, mechanics, medicine, meteorology,
        musicology, nursing, optics, pharmacy, philosophy, physics, poetry, psychology, rhetoric, sociology, statistics,
        theology, toxicology, zoology"""),
    "tree": _words("""
        acacia, alder, ash, aspen, beech, birch, cedar, chestnut, cypress, elm, eucalyptus, fir, hawthorn, hazel,
        hornbeam, juniper, larch, lime, maple, mulberry, oak, olive, palm, pine, plane, poplar, rowan, spruce, sycamore,
        walnut, willow, yew"""),
    "metal": _words("""
        aluminium, brass, bronze, chromium, cobalt, copper, gold, iron, lead, magnesium, nickel, pewter, platinum,
        silver, steel, tin, titanium, tungsten, zinc"""),
    "weather": _words(
        "drizzle, drought, fog, frost, hail, heat, heavy rain, sleet, snow, storms, strong winds, thunder"
    ),
    "vehicle": _words("""
        ambulance, balloon, barge, bicycle, bus, canoe, caravan, ferry, glider, helicopter, kayak, lorry, minibus,
        moped, motorcycle, rickshaw, scooter, sledge, taxi, tractor, tram, tricycle, van, wheelbarrow, yacht"""),
    "genre": _words("""
        bluegrass, blues, bossa nova, disco, flamenco, folk, funk, gospel, heavy metal, hip hop, jazz, klezmer, opera,
        polka, punk, ragtime, reggae, rock, salsa, samba, ska, soul, swing, tango, techno, waltzes"""),
    "drink": _words("""
        absinthe, apple juice, brandy, buttermilk, cider, cocoa, espresso, gin, ginger beer, green tea, lemonade,
        mead, mint tea, mulled wine, perry, port, rum, sherry, tonic water, vermouth, vodka"""),
    "topic": _words("""
        betrayal, chess, cooking, courage, exile, friendship, gambling, greed, grief, hunting, jealousy, lighthouses,
        loneliness, mountaineering, old age, piracy, railways, revenge, slavery, smuggling, spies, witchcraft"""),
    "ailment": _words("""
        asthma, bruises, burns, colds, coughs, earache, fever, gout, hay fever, headaches, indigestion, insomnia,
        nausea, rheumatism, sore throats, toothache, warts"""),
}

HIS = _words("""
    Adrian, Alan, Albert, Alfred, Anton, Arthur, Bernard, Boris, Bruno, Carl, Cedric, Charles, Christopher, Clement,
    Colin, Conrad, Cyril, Daniel, David, Dennis, Desmond, Dominic, Edgar, Edmund, Edward, Emil, Eric, Ernest, Felix,
    Francis, Frederick, Gabriel, George, Gerald, Gilbert, Gregory, Gustav, Harold, Henry, Herbert, Hugo, Ian, Igor,
    Isaac, Ivan, Jacob, James, Jasper, John, Jonas, Joseph, Julian, Karim, Kenneth, Lars, Leo, Leonard, Lewis, Louis,
    Magnus, Marcus, Martin, Matteo, Maurice, Michael, Miguel, Nathan, Nicholas, Nils, Noel, Omar, Oscar, Otto, Patrick,
    Paul, Peter, Philip, Rafael, Ralph, Raymond, Richard, Robert, Rupert, Samuel, Sebastian, Simon, Stefan, Stephen,
    Theodore, Thomas, Tobias, Victor, Vincent, Walter, William, Yusuf""")
HERS = _words("""
    Ada, Adela, Agatha, Agnes, Alice, Amelia, Amina, Anna, Anita, Astrid, Audrey, Beatrice, Bella, Bertha, Bridget,
    Camilla, Carla, Caroline, Catherine, Cecilia, Charlotte, Clara, Claudia, Cora, Daphne, Delia, Diana, Dora, Dorothy,
    Edith, Elena, Eleanor, Elsa, Emily, Emma, Erika, Esther, Eva, Fatima, Flora, Frances, Freda, Gloria, Grace, Greta,
    Hannah, Harriet, Heidi, Helen, Henrietta, Hilda, Ida, Ines, Ingrid, Irene, Iris, Isabel, Jane, Joan, Judith, Julia,
    Karen, Laura, Leila, Lena, Lily, Louisa, Lucy, Lydia, Mabel, Margaret, Maria, Marta, Martha, Matilda, Miriam,
    Monica, Nadia, Nina, Nora, Olga, Olivia, Paula, Petra, Rachel, Rita, Rosa, Rose, Ruth, Sarah, Selma, Stella, Susan,
    Sylvia, Teresa, Ursula, Vera, Winifred, Yvonne, Zoe""")

ONSETS = _words("""
    b, b, d, d, f, h, k, l, l, m, m, n, n, p, r, r, s, s, t, t, v, br, c, ch, cl, cr, dr, fl, fr, g, gl, gr, j, kl, kr,
    pl, pr, qu, sh, sk, sl, sn, st, str, th, tr, vl, w, y, z""")
VOWELS = _words("a, a, a, a, a, e, e, e, e, e, i, i, i, i, o, o, o, o, u, u, u, ae, ai, au, ea, ee, ei, ia, oa, oo, ou")
CODAS = _words("b, ck, d, g, k, l, ld, lm, m, n, n, nd, nt, p, r, r, rd, rk, rn, rt, s, sk, st, t, th, v, x, z")
SURNAME_ENDS = _words("""
    sen, son, ski, wicz, berg, feld, ley, ton, man, er, ov, ova, ic, ini, etti, oux, ard, ez, aro, escu, ides, ian,
    quist, lund, wood, worth, kar, ani""")
PLACE_ENDS = _words("""
    ton, ham, burgh, ford, wick, stad, by, mouth, field, dale, haven, grad, holm, bridge, mere, ville, a, ora, ino, eia,
    stow, bury, combe, heim, vik""")

ADJECTIVES = _words("""
    Amber, Ancient, Bitter, Borrowed, Brazen, Broken, Burning, Careful, Clever, Copper, Crooked, Distant, Drowned,
    Early, Empty, Fallen, False, Final, Forgotten, Frozen, Gentle, Glass, Golden, Hidden, Hollow, Hungry, Idle, Iron,
    Lame, Late, Little, Lonely, Lost, Lucky, Narrow, Nervous, Northern, Painted, Paper, Patient, Quiet, Restless,
    Rusty, Sacred, Salted, Second, Secret, Seventh, Silent, Sleeping, Slow, Southern, Stolen, Stubborn, Sunken, Tall,
    Thirsty, Torn, Twin, Unlit, Velvet, Wandering, Western, Whispering, Wild, Winter, Wooden""")
NOUNS = _words("""
    Anchor, Almanac, Archive, Avenue, Bell, Beacon, Bridge, Candle, Canal, Cathedral, Chimney, Clock, Compass, Cottage,
    Crown, Curtain, Door, Feather, Ferry, Fountain, Garden, Gate, Ghost, Harbour, Harvest, Hourglass, Island, Kettle,
    Key, Kingdom, Ladder, Lantern, Ledger, Letter, Lighthouse, Machine, Map, Meadow, Mirror, Moon, Mountain, Needle,
    Orchard, Oven, Parade, Pendulum, Pilgrim, Promise, Puppet, Riddle, Rope, Saddle, Shadow, Shore, Staircase, Stranger,
    Sundial, Telescope, Thimble, Thread, Throne, Tower, Umbrella, Valley, Voyage, Wheel, Widow, Window""")
TRADES = _words("""
    Textiles, Foods, Instruments, Motors, Chemicals, Shipping, Press, Optics, Brewery, Tools, Logistics, Ceramics,
    Insurance, Electric, Mills, Pharma, Software, Furniture, Glassworks, Airways, Bank, Robotics, Paints, Seeds""")
FORMS = _words("Ltd, Group, and Sons, Holdings, Company, Partners, Works, Brothers, AG, Industries")
STREETS = _words("Street, Road, Lane, Avenue, Square, Alley, Row, Quay, Terrace, Gardens, Way, Hill")
